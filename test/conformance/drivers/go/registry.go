package main

import (
	"fmt"
	"sync"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// named are the clients of one kind, by the name that the harness gave them.
type named[T any] struct {
	lock sync.Mutex
	all  map[string]T
}

func newNamed[T any]() *named[T] { return &named[T]{all: map[string]T{}} }

func (n *named[T]) put(name string, value T) {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.all[name] = value
}

func (n *named[T]) get(name string) (T, error) {
	n.lock.Lock()
	defer n.lock.Unlock()
	value, ok := n.all[name]
	if !ok {
		return value, fmt.Errorf("nothing is called %q here", name)
	}
	return value, nil
}

func (n *named[T]) take(name string) (T, bool) {
	n.lock.Lock()
	defer n.lock.Unlock()
	value, ok := n.all[name]
	delete(n.all, name)
	return value, ok
}

func (n *named[T]) names() []string {
	n.lock.Lock()
	defer n.lock.Unlock()
	names := []string{}
	for name := range n.all {
		names = append(names, name)
	}
	return names
}

// received is a message kept for its ack, with the consumer that got it. The client changes the receipt handle inside
// the view, so the view itself has to be kept.
type received struct {
	view     *rmq.MessageView
	consumer rmq.SimpleConsumer
}

type handles struct {
	*named[received]
	next int
}

func newHandles() *handles { return &handles{named: newNamed[received]()} }

func (h *handles) keep(one received) string {
	h.lock.Lock()
	h.next++
	name := fmt.Sprintf("h%d", h.next)
	h.lock.Unlock()
	h.put(name, one)
	return name
}
