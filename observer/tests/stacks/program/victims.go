package main

import (
	"fmt"
	"os"
)

// Goroutines whose function's tables are broken in the file: nothing may make the runtime look at them.
func victims() {
	ready := make(chan int)
	for i := 0; i < 20; i++ {
		go victim(ready)
		go bystander(ready)
		<-ready
		<-ready
	}
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
}

//go:noinline
func victim(ready chan int) {
	ready <- 1
	wait()
}

//go:noinline
func bystander(ready chan int) {
	ready <- 1
	wait()
}
