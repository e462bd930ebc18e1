package main

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func waits() {
	go func() { select {} }()
	go func() {
		select {
		case <-park:
		case make(chan int) <- 1:
		case <-time.After(time.Hour):
		}
	}()
	go func() { <-(chan int)(nil) }()
	go func() { (chan int)(nil) <- 1 }()
	go func() { make(chan int) <- 1 }()
	go func() {
		for range park {
		}
	}()
	var mutex sync.Mutex
	mutex.Lock()
	go mutex.Lock()
	go func() { defer mutex.Unlock(); mutex.Lock() }()
	var rw sync.RWMutex
	rw.Lock()
	go rw.RLock()
	go rw.Lock()
	go sync.NewCond(locked()).Wait()
	var group sync.WaitGroup
	group.Add(1)
	go group.Wait()
	go time.Sleep(time.Hour)
	go func() { <-time.NewTicker(time.Hour).C }()
	time.AfterFunc(0, wait)
	time.AfterFunc(time.Millisecond, func() { inlined(1) })

	reader, _, _ := os.Pipe()
	go reader.Read(make([]byte, 1))
	var fds [2]int
	syscall.Pipe(fds[:])
	go syscall.Read(fds[0], make([]byte, 1))
	go func() {
		runtime.LockOSThread()
		wait()
	}()
	go func() {
		runtime.LockOSThread()
		syscall.Read(fds[0], make([]byte, 1))
	}()
}

func locked() sync.Locker {
	mutex := new(sync.Mutex)
	mutex.Lock()
	return mutex
}
