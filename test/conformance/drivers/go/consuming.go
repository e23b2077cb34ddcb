package main

import (
	"context"
	"fmt"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

func (d *driver) openConsumer(asked *request) (any, error) {
	filterType := rmq.TAG
	switch asked.FilterType {
	case "", "tag":
	case "sql":
		filterType = rmq.SQL92
	default:
		return nil, fmt.Errorf("filterType is tag or sql, not %q", asked.FilterType)
	}
	var clientID string
	client, err := rmq.NewSimpleConsumer(
		d.config(asked.Group),
		rmq.WithClientFuncForSimpleConsumer(d.settled.client(&clientID)),
		rmq.WithAwaitDuration(milliseconds(asked.AwaitMs)),
		rmq.WithSubscriptionExpressions(map[string]*rmq.FilterExpression{
			asked.Topic: rmq.NewFilterExpressionWithType(asked.Filter, filterType),
		}),
	)
	if err != nil {
		return nil, err
	}
	if err := client.Start(); err != nil {
		return nil, err
	}
	d.settled.wait(clientID)
	d.consumers.put(asked.Name, client)
	return nothing, nil
}

func (d *driver) receive(asked *request) (any, error) {
	consumer, err := d.consumers.get(asked.Consumer)
	if err != nil {
		return nil, err
	}
	messages := []message{}
	views, err := consumer.Receive(context.Background(), asked.Max, milliseconds(asked.InvisibleMs))
	if answered, ok := rmq.AsErrRpcStatus(err); ok && answered.GetCode() == int32(v2.Code_MESSAGE_NOT_FOUND) {
		return map[string]any{"messages": messages}, nil
	}
	if err != nil {
		return nil, err
	}
	for _, view := range views {
		handle := d.received.keep(received{view: view, consumer: consumer})
		messages = append(messages, described(view, handle))
	}
	return map[string]any{"messages": messages}, nil
}

// ack: the client looks at the transport only; a refused receipt handle is no error to it.
func (d *driver) ack(asked *request) (any, error) {
	one, err := d.received.get(asked.Handle)
	if err != nil {
		return nil, err
	}
	return nothing, one.consumer.Ack(context.Background(), one.view)
}

func (d *driver) changeInvisible(asked *request) (any, error) {
	one, err := d.received.get(asked.Handle)
	if err != nil {
		return nil, err
	}
	return nothing, one.consumer.ChangeInvisibleDuration(one.view, milliseconds(asked.InvisibleMs))
}

func described(view *rmq.MessageView, handle string) message {
	keys := view.GetKeys()
	if keys == nil {
		keys = []string{}
	}
	return message{
		Handle:       handle,
		MessageID:    view.GetMessageId(),
		Topic:        view.GetTopic(),
		Body:         view.GetBody(),
		Tag:          view.GetTag(),
		Keys:         keys,
		Properties:   propertiesOf(view),
		MessageGroup: view.GetMessageGroup(),
		DeliverAtMs:  epochMs(view.GetDeliveryTimestamp()),
		BornAtMs:     epochMs(view.GetBornTimestamp()),
		Attempt:      view.GetDeliveryAttempt(),
	}
}

func propertiesOf(view *rmq.MessageView) map[string]string {
	if properties := view.GetProperties(); properties != nil {
		return properties
	}
	return map[string]string{}
}

func milliseconds(count int64) time.Duration { return time.Duration(count) * time.Millisecond }

func epochMs(instant *time.Time) *int64 {
	if instant == nil {
		return nil
	}
	at := instant.UnixMilli()
	return &at
}
