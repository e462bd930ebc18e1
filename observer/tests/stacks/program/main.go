// Goroutines parked with every kind of stack that the compiler and the runtime make. On a line on stdin that names a format it
// answers with its own profile, preceded by its length. With an argument it has other goroutines instead.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
)

var park = make(chan int)

// Where everything ends up. It is never inlined, so that there is a frame below the runtime's.
//
//go:noinline
func wait() { <-park }

func main() {
	if len(os.Args) > 1 {
		map[string]func(){"busy": busy, "victims": victims}[os.Args[1]]()
	}
	for _, start := range starts {
		start()
	}
	go control()
	wait()
}

// What only some builds have is appended by their files.
var starts = []func(){calls, generics, panics, waits, labels, runtimeCalls}

func control() {
	settle()
	fmt.Println("ready")
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		var text strings.Builder
		switch input.Text() {
		case "debug2":
			buf := make([]byte, 64<<20)
			text.Write(buf[:runtime.Stack(buf, true)])
		case "debug1":
			pprof.Lookup("goroutine").WriteTo(&text, 1)
		case "pprof":
			pprof.Lookup("goroutine").WriteTo(&text, 0)
		}
		fmt.Printf("%d\n%s", text.Len(), text.String())
	}
}

// Waits until all goroutines are parked: none is runnable or running but this one.
func settle() {
	buf := make([]byte, 4<<20)
	for {
		time.Sleep(20 * time.Millisecond)
		text := string(buf[:runtime.Stack(buf, true)])
		if strings.Count(text, "[runnable") == 0 && strings.Count(text, "[running") == 1 {
			return
		}
	}
}
