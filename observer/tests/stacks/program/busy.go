package main

import (
	"fmt"
	"runtime"
	"syscall"
)

// Goroutines that never rest: each goes up and down two chains of calls that have nothing in common, and
// gives way, waits, calls the kernel and computes at their ends.
func busy() {
	here, there := make(chan int), make(chan int)
	for i := 0; i < 100; i++ {
		go run(here, there)
		go run(there, here)
	}
	fmt.Println("ready")
	select {}
}

//go:noinline
func run(from, to chan int) {
	for {
		left1(from, to)
		right1(from, to)
	}
}

//go:noinline
func left1(from, to chan int) int { return left2(from, to) + 1 }

//go:noinline
func left2(from, to chan int) int { return left3(from, to, [40]int{}) + 1 }

//go:noinline
func left3(from, to chan int, room [40]int) int {
	select {
	case n := <-from:
		return n + room[0]
	case to <- 1:
		runtime.Gosched()
	}
	return 0
}

//go:noinline
func right1(from, to chan int) int { return right2(from, to, [10]int{}) + 1 }

//go:noinline
func right2(from, to chan int, room [10]int) int {
	return right3() + right3() + room[0]
}

//go:noinline
func right3() (n int) {
	syscall.Getppid()
	for i := 0; i < 10000; i++ {
		n += i * i
	}
	return n
}
