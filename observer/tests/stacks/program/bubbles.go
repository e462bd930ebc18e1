//go:build go1.25

package main

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func init() { starts = append(starts, bubbles) }

// Goroutines with a time of their own. Those that wait for something outside keep it from passing.
func bubbles() {
	test := func(t *testing.T) {
		go synctest.Test(t, bubble)
		synctest.Test(t, bubble)
	}
	all := func(string, string) (bool, error) { return true, nil }
	go testing.Main(all, []testing.InternalTest{{Name: "bubbles", F: test}}, nil, nil)
}

func bubble(*testing.T) {
	go wait()
	go func() { <-make(chan int) }()
	go func() { make(chan int) <- 1 }()
	go func() { select {} }()
	go func() {
		select {
		case <-make(chan int):
		case <-make(chan int):
		}
	}()
	go func() { <-(chan int)(nil) }()
	go time.Sleep(time.Hour)
	go sync.NewCond(locked()).Wait()
	var group sync.WaitGroup
	group.Add(1)
	go group.Wait()
	go locked().Lock()
	go synctest.Wait()
	wait()
}
