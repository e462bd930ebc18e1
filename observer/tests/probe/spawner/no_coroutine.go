//go:build !go1.23

package main

func coroutines(int) { panic("this Go has no coroutines") }
