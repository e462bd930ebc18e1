//go:build cgo

package main

/*
#include <unistd.h>

extern void goCallback(int);

static void inC(void) { for (;;) pause(); }
static void callBack(int n) { goCallback(n); }
*/
import "C"

func init() { starts = append(starts, cgoCalls) }

func cgoCalls() {
	go C.inC()
	go func() { C.callBack(1) }()
	go throughC(2)
}

func throughC(n int) { C.callBack(C.int(n)) }

//export goCallback
func goCallback(n C.int) { blocking(int(n)) }
