package main

import (
	"context"
	"strings"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/metadata"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc"
	grpcmetadata "google.golang.org/grpc/metadata"
)

// A consumer's Start does not wait until the server has taken its settings, and a real proxy answers 50001 to a poll
// that overtakes them. So the driver listens on the telemetry stream and calls a consumer open when the server has
// answered. It is the one thing that the driver does for the client.
const settingsMax = 5 * time.Second

// settled holds, by client id, a channel that is closed when the server has answered that client's settings.
type settled struct {
	lock sync.Mutex
	by   map[string]chan struct{}
}

func newSettled() *settled { return &settled{by: map[string]chan struct{}{}} }

func (s *settled) of(clientID string) chan struct{} {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.by[clientID] == nil {
		s.by[clientID] = make(chan struct{})
	}
	return s.by[clientID]
}

func (s *settled) mark(clientID string) {
	answered := s.of(clientID)
	s.lock.Lock()
	defer s.lock.Unlock()
	select {
	case <-answered:
	default:
		close(answered)
	}
}

// wait is bounded: a server that never answers is the harness's to judge, by what the client does then.
func (s *settled) wait(clientID string) {
	select {
	case <-s.of(clientID):
	case <-time.After(settingsMax):
	}
}

// client makes a client as the library does, and tells its id, which nothing else of the public interface does.
func (s *settled) client(tell *string) rmq.NewClientFunc {
	return func(config *rmq.Config, options ...rmq.ClientOption) (rmq.Client, error) {
		made, err := rmq.NewClient(config, options...)
		if err == nil {
			*tell = made.GetClientID()
		}
		return made, err
	}
}

func (s *settled) listen(ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string,
	open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, description, connection, method, options...)
	if err != nil || !strings.HasSuffix(method, "/Telemetry") {
		return stream, err
	}
	sent, _ := grpcmetadata.FromOutgoingContext(ctx)
	clientID := strings.Join(sent.Get(metadata.ClintID), "")
	return &telemetry{ClientStream: stream, onSettings: func() { s.mark(clientID) }}, nil
}

type telemetry struct {
	grpc.ClientStream
	onSettings func()
}

func (t *telemetry) RecvMsg(into any) error {
	err := t.ClientStream.RecvMsg(into)
	if command, ok := into.(*v2.TelemetryCommand); ok && err == nil && command.GetSettings() != nil {
		t.onSettings()
	}
	return err
}
