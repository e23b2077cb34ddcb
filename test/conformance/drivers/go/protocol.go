package main

import (
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"sync"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc/status"
)

// request is every verb's fields in one struct; []byte is base64 in JSON, as the protocol wants it.
type request struct {
	N            int64             `json:"n"`
	Do           string            `json:"do"`
	Name         string            `json:"name"`
	Topics       []string          `json:"topics"`
	Check        string            `json:"check"`
	Producer     string            `json:"producer"`
	Topic        string            `json:"topic"`
	Body         []byte            `json:"body"`
	Tag          *string           `json:"tag"`
	Keys         []string          `json:"keys"`
	Properties   map[string]string `json:"properties"`
	MessageGroup *string           `json:"messageGroup"`
	DeliverAtMs  *int64            `json:"deliverAtMs"`
	Resolve      string            `json:"resolve"`
	Group        string            `json:"group"`
	Filter       string            `json:"filter"`
	FilterType   string            `json:"filterType"`
	AwaitMs      int64             `json:"awaitMs"`
	Consumer     string            `json:"consumer"`
	Max          int32             `json:"max"`
	InvisibleMs  int64             `json:"invisibleMs"`
	Handle       string            `json:"handle"`
}

type message struct {
	Handle       string            `json:"handle"`
	MessageID    string            `json:"messageId"`
	Topic        string            `json:"topic"`
	Body         []byte            `json:"body"`
	Tag          *string           `json:"tag,omitempty"`
	Keys         []string          `json:"keys"`
	Properties   map[string]string `json:"properties"`
	MessageGroup *string           `json:"messageGroup,omitempty"`
	DeliverAtMs  *int64            `json:"deliverAtMs,omitempty"`
	BornAtMs     *int64            `json:"bornAtMs"`
	Attempt      int32             `json:"attempt"`
}

type failure struct {
	Code int32  `json:"code"`
	Text string `json:"text"`
}

var nothing = struct{}{}

type unsupported string

func (what unsupported) Error() string { return "unsupported by this client: " + string(what) }

// The client wraps a status into plain text at start-up; the name of the code is all that is left of it there.
var codeInText = regexp.MustCompile(`CODE: ([A-Z_]+)`)

func failureOf(err error) failure {
	if answered, ok := rmq.AsErrRpcStatus(err); ok {
		return failure{Code: answered.GetCode(), Text: answered.GetMessage()}
	}
	var transport interface{ GRPCStatus() *status.Status }
	if errors.As(err, &transport) {
		return failure{Code: -int32(transport.GRPCStatus().Code()), Text: err.Error()}
	}
	if named := codeInText.FindStringSubmatch(err.Error()); named != nil {
		return failure{Code: v2.Code_value[named[1]], Text: err.Error()}
	}
	return failure{Text: err.Error()}
}

// lines writes one JSON object per line, whole, whoever writes.
type lines struct {
	lock    sync.Mutex
	encoder *json.Encoder
}

func newLines(to io.Writer) *lines {
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	return &lines{encoder: encoder}
}

func (l *lines) write(value any) {
	l.lock.Lock()
	defer l.lock.Unlock()
	_ = l.encoder.Encode(value) // the reader is gone: stdin will end next, and then so do we
}
