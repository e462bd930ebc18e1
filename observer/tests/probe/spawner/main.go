// Spawner starts goroutines when it is told to on standard input, and says "ok" when that is done:
// when every goroutine that a command ends has left the runtime's own count.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

var (
	running sync.WaitGroup
	release = make(chan struct{})
)

func short() { running.Done() }

func blocked() {
	<-release
	running.Done()
}

//go:noinline
func spawnShort(n int) {
	for i := 0; i < n; i++ {
		running.Add(1)
		go short()
	}
}

//go:noinline
func spawnBlocked(n int) {
	for i := 0; i < n; i++ {
		running.Add(1)
		go blocked()
	}
}

// forked makes a child by fork alone, so that it inherits this process's text and the breakpoints in it.
func forked(n int) {
	pid, _, errno := syscall.RawSyscall(syscall.SYS_FORK, 0, 0, 0)
	if errno != 0 {
		panic(errno)
	}
	if pid == 0 {
		spawnShort(n)
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 7, 0, 0)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(int(pid), &status, 0, nil); err != nil || status.ExitStatus() != 7 {
		panic(fmt.Sprint("child: ", err, status))
	}
}

// another runs this program again and has it spawn.
func another(n int) {
	command := exec.Command("/proc/self/exe")
	command.Stdin = strings.NewReader(fmt.Sprintln("short", n))
	if output, err := command.CombinedOutput(); err != nil || string(output) != "ok\n" {
		panic(fmt.Sprint("child: ", err, output))
	}
}

func settle(goroutines int) {
	for runtime.NumGoroutine() != goroutines {
		runtime.Gosched()
	}
}

func run(command string, n int) {
	before := runtime.NumGoroutine()
	switch command {
	case "short":
		spawnShort(n)
		settle(before)
	case "blocked":
		spawnBlocked(n)
	case "release":
		close(release)
		settle(before - n)
	case "coroutine":
		coroutines(n)
		settle(before)
	case "fork":
		forked(n)
	case "another":
		another(n)
	default:
		panic("unknown command: " + command)
	}
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		n, err := strconv.Atoi(words[1])
		if err != nil {
			panic(err)
		}
		run(words[0], n)
		fmt.Println("ok")
	}
}
