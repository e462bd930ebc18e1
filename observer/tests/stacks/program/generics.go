package main

type number interface{ ~int | ~float64 }

func sum[T number](values []T, each func(T)) (total T) {
	for _, value := range values {
		each(value)
		total += value
	}
	return total
}

//go:noinline
func blockGeneric[T any](value T) T { wait(); return value }

type list[T any] struct {
	value T
	next  *list[T]
}

//go:noinline
func (l *list[T]) walk(visit func(T)) {
	visit(l.value)
	if l.next != nil {
		l.next.walk(visit)
	}
}

func (l list[T]) last() T { return blockGeneric(l.value) }

type pair[K comparable, V any] struct {
	key   K
	value V
}

func (p pair[K, V]) block() { func() { blockGeneric(p.key) }() }

func generics() {
	go sum([]int{1}, func(int) { wait() })
	go sum([]float64{1}, func(float64) { blockGeneric("a") })
	go blockGeneric([]string{"a"})
	l := &list[string]{value: "a"}
	go l.walk(func(string) { wait() })
	go l.last()
	go (&list[int]{next: &list[int]{}}).walk(func(int) { blockGeneric(1) })
	p := pair[string, map[int][]string]{}
	go p.block()
	block := p.block
	go block()
}
