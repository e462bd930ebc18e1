package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"
)

// Goroutines that run as far as the runtime knows: one computes, one waits in a system call that the runtime isn't
// told of. Nothing may stop the world, which would wait for the latter for ever.
func running() {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(4)
	go spin()
	go unseen()
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	os.Exit(0)
}

var (
	spun  int
	table [8]int
)

//go:noinline
func spin() { spinDeeper(1) }

//go:noinline
func spinDeeper(n int) {
	for i := 0; ; i += n {
		table[i&7]++
	}
}

//go:noinline
func unseen() { spun += readNothing() }

//go:noinline
func readNothing() int {
	var ends [2]int
	syscall.Pipe(ends[:])
	var block [1]byte
	n, _, _ := syscall.RawSyscall(syscall.SYS_READ, uintptr(ends[0]), uintptr(unsafe.Pointer(&block)), 1)
	return int(n)
}
