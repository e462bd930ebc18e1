package main

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
)

// Labels of every number and kind that a program may give to its goroutines.
func labels() {
	for _, count := range []int{0, 1, 2, 7, 8, 9, 13, 14, 27, 60} {
		go pprof.Do(context.Background(), pprof.Labels(pairs("key", count)...), func(context.Context) { wait() })
	}
	// Each starts with what its parent has, one more and one replaced.
	go nest(context.Background(), 20)
	for _, text := range []string{"", "a b", "\"\\'", "é世\U0001f600\u00a0", strings.Repeat("x", 900)} {
		go pprof.Do(context.Background(), pprof.Labels("text", text), func(context.Context) { wait() })
		go pprof.Do(context.Background(), pprof.Labels(text, "text", "path", "/a/b.c_d"), func(context.Context) { wait() })
	}
	for _, text := range []string{"tab\t\nline\a", "\u202eright to left", "\u2028"} {
		go pprof.Do(context.Background(), pprof.Labels("text", text, text, "text"), unprintable)
	}
	// Those that are started inherit, and share.
	go pprof.Do(context.Background(), pprof.Labels("shared", "by all"), func(context.Context) {
		for i := 0; i < 5; i++ {
			go wait()
		}
		wait()
	})
	go func() {
		pprof.Do(context.Background(), pprof.Labels("over", "1"), func(context.Context) {})
		wait()
	}()
}

//go:noinline
func unprintable(context.Context) { wait() }

func pairs(name string, count int) (pairs []string) {
	for i := 0; i < count; i++ {
		pairs = append(pairs, fmt.Sprint(name, i), fmt.Sprint("value ", i))
	}
	return pairs
}

func nest(outer context.Context, depth int) {
	labels := pprof.Labels(fmt.Sprint("depth", depth), "yes", "innermost", fmt.Sprint(depth))
	pprof.Do(outer, labels, func(inner context.Context) {
		go wait()
		if depth > 0 {
			nest(inner, depth-1)
		}
		wait()
	})
}
