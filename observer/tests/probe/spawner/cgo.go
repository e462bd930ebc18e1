//go:build cgo

package main

import "C" // has the program linked with the C library, which makes its threads
