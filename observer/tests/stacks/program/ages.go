package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// The time before a goroutine began to wait, and one at which it did.
type began struct{ after, before time.Time }

// Goroutines that wait since times that are known. Garbage collections take place only in between, so that none is
// under way when one of them begins to wait. The answer to each line on stdin is a line of JSON: for how many
// seconds at least and at most each of them has waited.
func ages() {
	debug.SetGCPercent(-1)
	runtime.GC()
	waits := map[string]*began{}
	start := func(name string, wait func(), collections int) {
		noted := make(chan time.Time, 1)
		go func() { noted <- time.Now(); wait() }()
		waits[name] = &began{after: <-noted}
		settle()
		waits[name].before = time.Now()
		time.Sleep(50 * time.Millisecond)
		for ; collections > 0; collections-- {
			runtime.GC()
		}
	}
	start("main.first", first, 2)
	start("main.second", second, 1)
	start("main.third", third, 1)
	start("main.sleeper", sleeper, 0)
	fmt.Println("ready")
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		fmt.Printf("{")
		for name, began := range waits {
			fmt.Printf(`"%s": [%.9f, %.9f], `, name, time.Since(began.before).Seconds(), time.Since(began.after).Seconds())
		}
		fmt.Printf("\"pid\": %d}\n", os.Getpid())
	}
	os.Exit(0)
}

//go:noinline
func first() { wait() }

//go:noinline
func second() { wait() }

//go:noinline
func third() { wait() }

//go:noinline
func sleeper() { time.Sleep(time.Hour) }
