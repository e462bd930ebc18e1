package main

import (
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
)

// What makes a runtime move, stop and interrupt its goroutines, until told otherwise.
var (
	stormy  int32
	storms  sync.WaitGroup
	garbage [64][]byte
	quiet   int // goroutines before the storm
)

// deep grows the stack, so that it is copied, and comes back with a sum that a damaged stack would not have.
//
//go:noinline
func deep(n int) int {
	var room [64]byte
	room[n%64] = byte(n)
	if n == 0 {
		return int(room[0])
	}
	return deep(n-1) + 1 + int(room[n%64]) - int(byte(n))
}

func grow() {
	defer running.Done()
	if sum := deep(2000); sum != 2000 {
		panic(fmt.Sprint("a stack was damaged: ", sum))
	}
}

func whileStormy(work func(i int)) {
	storms.Add(1)
	go func() {
		defer storms.Done()
		for i := 0; atomic.LoadInt32(&stormy) == 1; i++ {
			work(i)
		}
	}()
}

func pingPong() {
	there, back := make(chan int), make(chan int)
	storms.Add(1)
	go func() {
		defer storms.Done()
		for i := range there {
			back <- i + 1
		}
	}()
	storms.Add(1)
	go func() {
		defer storms.Done()
		for i := 0; atomic.LoadInt32(&stormy) == 1; i++ {
			there <- i
			if answer := <-back; answer != i+1 {
				panic(fmt.Sprint("a message was damaged: ", answer))
			}
		}
		close(there)
	}()
}

// storm collects garbage all the time, grows stacks, starts processes and is interrupted for a profile.
func storm() {
	quiet = runtime.NumGoroutine()
	atomic.StoreInt32(&stormy, 1)
	debug.SetGCPercent(1)
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		panic(err)
	}
	whileStormy(func(i int) { garbage[i%64] = make([]byte, 1<<uint(8+i%8)) })
	whileStormy(func(int) {
		running.Add(20)
		for i := 0; i < 20; i++ {
			go grow()
		}
		running.Wait()
	})
	whileStormy(func(i int) {
		if err := exec.Command("true").Run(); err != nil {
			panic(err)
		}
		time.Sleep(20 * time.Millisecond)
	})
	pingPong()
}

// calm returns when no goroutine of the storm is left: the next command would count one that has not quite ended, and
// then wait for it to come back.
func calm() {
	atomic.StoreInt32(&stormy, 0)
	storms.Wait()
	pprof.StopCPUProfile()
	debug.SetGCPercent(100)
	settle(quiet)
}
