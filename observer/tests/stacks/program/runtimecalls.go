package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
)

func runtimeCalls() {
	finalized := make(chan int)
	func() {
		object := &[16]int{}
		runtime.SetFinalizer(object, func(object *[16]int) { close(finalized); wait() })
	}()
	for done := false; !done; {
		runtime.GC()
		select {
		case <-finalized:
			done = true
		default:
		}
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1)
	go pprof.Do(context.Background(), pprof.Labels("request", "a b"), func(context.Context) { wait() })
	go func() { defer wait(); runtime.Goexit() }()
}
