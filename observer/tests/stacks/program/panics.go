package main

import "errors"

func panics() {
	go recovering()
	go faulting(nil)
	go dividing(0)
	go nested()
	go throughWrapper()
	go afterRecovery()
}

func recovering() {
	defer func() {
		wait()
		recover()
	}()
	panic(errors.New("on purpose"))
}

//go:noinline
func faulting(s *square) int {
	defer func() { recover() }()
	defer blocking(1)
	return s.side
}

//go:noinline
func dividing(n int) int {
	defer func() { blocking(n); recover() }()
	return 1 / n
}

func nested() {
	defer func() {
		defer func() {
			defer func() { recover() }()
			wait()
		}()
		panic("second")
	}()
	panic("first")
}

func throughWrapper() {
	defer func() { wait(); recover() }()
	var i shape = boxedPointer{}
	i.area(1)
}

func afterRecovery() {
	func() {
		defer func() { recover() }()
		panic("over")
	}()
	wait()
}
