//go:build go1.23

package main

import "iter"

//go:noinline
func coroutines(n int) {
	for i := 0; i < n; i++ {
		next, stop := iter.Pull(numbers)
		next()
		stop()
	}
}

func numbers(yield func(int) bool) {
	for i := 0; yield(i); i++ {
	}
}
