package main

import (
	"reflect"
	"sort"
	"sync"
)

type shape interface{ area(n int) int }

type square struct{ side int }

//go:noinline
func (s square) area(n int) int { wait(); return s.side * n }

func (s *square) grow(n int) { s.side += n; wait() }

// The compiler makes wrappers for what is embedded.
type boxed struct{ square }

type boxedPointer struct{ *square }

func calls() {
	go recurse(1000)
	go recurse(3)
	go mutual(40)
	go inlined(3)
	go func() { inlined(4) }()
	go func(n int) { func() { inlined(n) }() }(5)
	go wait()

	s := &square{2}
	go s.grow(1)
	go s.area(1)
	method := s.grow
	go method(2)
	expression := (*square).grow
	go expression(s, 3)
	var i shape = &boxed{square{3}}
	go i.area(4)
	i = boxedPointer{s}
	go func() { i.area(5) }()
	go shape.area(i, 6)
	go reflect.ValueOf(s.grow).Call([]reflect.Value{reflect.ValueOf(7)})
	go sort.Slice([]int{3, 2, 1}, func(a, b int) bool { wait(); return a < b })
	go new(sync.Once).Do(wait)
	go new(sync.Once).Do(func() { wait() })

	go deferred(1)
	go deferredInLoop()
	go large([64 << 10]byte{})
}

//go:noinline
func recurse(n int) int {
	if n == 0 {
		wait()
		return 0
	}
	return recurse(n-1) + 1
}

func mutual(n int) {
	if n == 0 {
		wait()
	} else {
		mutualOther(n - 1)
	}
}

//go:noinline
func mutualOther(n int) { mutual(n) }

func inlined(n int) int  { return twice(n) + 1 }
func twice(n int) int    { return blocking(n) * 2 }
func blocking(n int) int { wait(); return n }

func deferred(n int) {
	defer func() { blocking(n) }()
	blockingNot(n)
}

func deferredInLoop() {
	for i := 0; i < 3; i++ {
		defer blocking(i)
	}
}

//go:noinline
func blockingNot(n int) int { return n }

//go:noinline
func large(data [64 << 10]byte) byte {
	wait()
	return data[0]
}
