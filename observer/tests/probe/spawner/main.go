// Spawner starts goroutines when it is told to on standard input, and answers when that is done:
// when every goroutine that a command ends has left the runtime's own count.
package main

import (
	"bufio"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	running sync.WaitGroup
	release = make(chan struct{})
	sleeps  int
	burning sync.WaitGroup
	rounds  int
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

// sleeper parks once in each sleep.
func sleeper() {
	for i := 0; i < sleeps; i++ {
		time.Sleep(time.Microsecond)
	}
	running.Done()
}

//go:noinline
func spawnSleeper(n int) {
	sleeps = n
	running.Add(1)
	go sleeper()
	running.Wait()
}

// receiver waits n times and measures how long, by powers of two from 1.024 µs.
func receiver(n int, c chan int, buckets *[28]int, done *sync.WaitGroup) {
	for i := 0; i < n; i++ {
		before := time.Now()
		<-c
		waited := time.Since(before)
		bucket := bits.Len64(uint64(waited) >> 10)
		if bucket > 27 {
			bucket = 27
		}
		buckets[bucket]++
	}
	done.Done()
}

// waits makes a receiver wait n times for lengths of time from 0.1 to 12.8 ms, and returns what it measured.
func waits(n int) string {
	var buckets [28]int
	var done sync.WaitGroup
	c := make(chan int)
	done.Add(1)
	go receiver(n, c, &buckets, &done)
	for i := 0; i < n; i++ {
		time.Sleep(100 * time.Microsecond << (i % 8))
		c <- i
	}
	done.Wait()
	return strings.Trim(fmt.Sprint(buckets), "[]")
}

var sink uint64

//go:noinline
func spin(rounds int) {
	x := uint64(rounds)
	for i := 0; i < rounds; i++ {
		x = x*6364136223846793005 + 1442695040888963407
	}
	if x == 1 {
		sink = x
	}
}

func burnThree() {
	spin(3 * rounds)
	burning.Done()
}

func burnOne() {
	spin(rounds)
	burning.Done()
}

//go:noinline
func spawnThree() { go burnThree() }

//go:noinline
func spawnOne() { go burnOne() }

// burn uses about n milliseconds of CPU time, three quarters of it in one goroutine.
func burn(n int) {
	const million = 1000000
	before := time.Now()
	spin(million)
	rounds = int(time.Duration(n) * time.Millisecond * million / time.Since(before) / 4)
	burning.Add(2)
	spawnThree()
	spawnOne()
	burning.Wait()
}

// settle waits until no more goroutines than that are left.
func settle(goroutines int) {
	for runtime.NumGoroutine() > goroutines {
		runtime.Gosched()
	}
}

func run(command string, n int) string {
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
	case "storm":
		storm()
	case "calm":
		calm()
	case "fork":
		forked(n)
	case "another":
		another(n)
	case "sleep":
		spawnSleeper(n)
		settle(before)
	case "burn":
		burn(n)
	case "wait":
		return waits(n)
	default:
		panic("unknown command: " + command)
	}
	return "ok"
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		n, err := strconv.Atoi(words[1])
		if err != nil {
			panic(err)
		}
		fmt.Println(run(words[0], n))
	}
}
