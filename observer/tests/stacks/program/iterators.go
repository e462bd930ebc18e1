//go:build go1.23

package main

import (
	"iter"
	"slices"
)

func init() { starts = append(starts, iterators) }

func numbers(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; i < n; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

func iterators() {
	go func() {
		for i := range numbers(3) {
			for range slices.Values([]int{i}) {
				wait()
			}
		}
	}()
	go func() {
		defer blocking(1)
		for range numbers(1) {
			defer blocking(2)
		}
	}()
	go pull()
	go pullBlocked()
}

// The coroutine is parked in yield.
func pull() {
	next, stop := iter.Pull(numbers(3))
	defer stop()
	next()
	wait()
}

// The coroutine is blocked, and so is who waits for its next value.
func pullBlocked() {
	next, stop := iter.Pull(func(yield func(int) bool) { wait() })
	defer stop()
	next()
}
