// The official Go client behind the conformance suite's line protocol: a request per line on stdin, an answer per line
// on stdout, requests side by side. It hides nothing of the client: no retry, no repair, no check of its own (one wait:
// settings.go). What surprised us about the client is in ../go-and-python.md.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const clientVersion = "5.1.2"

const closeMax = 8 * time.Second // the protocol gives ten seconds from the end of stdin to the end of the process

// driver holds the clients that requests name. Each kind has a file of its own: producing.go, consuming.go.
type driver struct {
	endpoint  string
	out       *lines
	settled   *settled
	producers *named[rmq.Producer]
	consumers *named[rmq.SimpleConsumer]
	received  *handles
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: driver HOST:PORT [--tls]")
		os.Exit(2)
	}
	tls := len(os.Args) > 2 && os.Args[2] == "--tls"
	out := newLines(os.Stdout)
	logToStderr()
	settled := newSettled()
	connectBy(dialOptions(tls, settled)...)
	d := &driver{
		endpoint:  os.Args[1],
		out:       out,
		settled:   settled,
		producers: newNamed[rmq.Producer](),
		consumers: newNamed[rmq.SimpleConsumer](),
		received:  newHandles(),
	}
	out.write(map[string]any{"ready": true, "client": "go " + clientVersion})
	d.serve(os.Stdin)
	d.closeAll(closeMax)
}

func (d *driver) serve(in io.Reader) {
	reader := bufio.NewReader(in)
	for {
		line, err := reader.ReadBytes('\n')
		if len(line) > 1 {
			go d.answer(line)
		}
		if err != nil {
			return
		}
	}
}

func (d *driver) answer(line []byte) {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		d.out.write(map[string]any{"n": asked.N, "error": failure{Text: "not a request: " + err.Error()}})
		return
	}
	done, err := d.perform(&asked)
	if err != nil {
		d.out.write(map[string]any{"n": asked.N, "error": failureOf(err)})
		return
	}
	d.out.write(map[string]any{"n": asked.N, "ok": done})
}

// perform turns a panic of the client into an answer: one broken request must not take the others with it.
func (d *driver) perform(asked *request) (done any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the client panicked: %v", cause)
		}
	}()
	switch asked.Do {
	case "producer":
		return d.openProducer(asked)
	case "send":
		return d.send(asked)
	case "sendTransaction":
		return d.sendTransaction(asked)
	case "consumer":
		return d.openConsumer(asked)
	case "receive":
		return d.receive(asked)
	case "ack":
		return d.ack(asked)
	case "changeInvisible":
		return d.changeInvisible(asked)
	case "close":
		return nothing, d.close(asked.Name)
	case "recall":
		return nil, unsupported("its Producer has no recall, and its receipt carries no recall handle")
	case "push":
		return nil, unsupported("it has no PushConsumer")
	}
	return nil, fmt.Errorf("unknown verb %q", asked.Do)
}

func (d *driver) close(name string) error {
	if made, ok := d.producers.take(name); ok {
		return made.GracefulStop()
	}
	if made, ok := d.consumers.take(name); ok {
		return made.GracefulStop()
	}
	return fmt.Errorf("nothing is called %q here", name)
}

func (d *driver) closeAll(max time.Duration) {
	closed := make(chan struct{})
	go func() {
		for _, name := range append(d.producers.names(), d.consumers.names()...) {
			if err := d.close(name); err != nil {
				fmt.Fprintf(os.Stderr, "closing %s: %v\n", name, err)
			}
		}
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(max):
		fmt.Fprintln(os.Stderr, "not all clients closed in time")
	}
}
