package main

import (
	"context"
	"fmt"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

var resolutions = map[string]rmq.TransactionResolution{
	"commit":   rmq.COMMIT,
	"rollback": rmq.ROLLBACK,
	"unknown":  rmq.UNKNOWN,
}

func (d *driver) openProducer(asked *request) (any, error) {
	options := []rmq.ProducerOption{rmq.WithTopics(asked.Topics...)}
	if asked.Check != "" {
		resolution, ok := resolutions[asked.Check]
		if !ok {
			return nil, fmt.Errorf("check is commit, rollback or unknown, not %q", asked.Check)
		}
		options = append(options, rmq.WithTransactionChecker(&rmq.TransactionChecker{
			Check: func(view *rmq.MessageView) rmq.TransactionResolution {
				d.out.write(map[string]any{
					"event":      "check",
					"producer":   asked.Name,
					"messageId":  view.GetMessageId(),
					"properties": propertiesOf(view),
				})
				return resolution
			},
		}))
	}
	client, err := rmq.NewProducer(d.config(""), options...)
	if err != nil {
		return nil, err
	}
	if err := client.Start(); err != nil {
		return nil, err
	}
	d.producers.put(asked.Name, client)
	return nothing, nil
}

// config: the credentials may be empty but not absent; every call is signed with them.
func (d *driver) config(group string) *rmq.Config {
	return &rmq.Config{Endpoint: d.endpoint, ConsumerGroup: group, Credentials: &credentials.SessionCredentials{}}
}

func (d *driver) send(asked *request) (any, error) {
	producer, err := d.producers.get(asked.Producer)
	if err != nil {
		return nil, err
	}
	receipts, err := producer.Send(context.Background(), messageOf(asked))
	if err != nil {
		return nil, err
	}
	return receiptOf(receipts, false)
}

// sendTransaction: Commit and RollBack always say nil, whatever the server answered; the client only logs it.
func (d *driver) sendTransaction(asked *request) (any, error) {
	producer, err := d.producers.get(asked.Producer)
	if err != nil {
		return nil, err
	}
	transaction := producer.BeginTransaction()
	receipts, err := producer.SendWithTransaction(context.Background(), messageOf(asked), transaction)
	if err != nil {
		return nil, err
	}
	switch asked.Resolve {
	case "commit":
		err = transaction.Commit()
	case "rollback":
		err = transaction.RollBack()
	case "leave":
	default:
		err = fmt.Errorf("resolve is commit, rollback or leave, not %q", asked.Resolve)
	}
	if err != nil {
		return nil, err
	}
	return receiptOf(receipts, true)
}

func messageOf(asked *request) *rmq.Message {
	made := &rmq.Message{Topic: asked.Topic, Body: asked.Body, Tag: asked.Tag}
	if len(asked.Keys) > 0 {
		made.SetKeys(asked.Keys...)
	}
	for key, value := range asked.Properties {
		made.AddProperty(key, value)
	}
	if asked.MessageGroup != nil {
		made.SetMessageGroup(*asked.MessageGroup)
	}
	if asked.DeliverAtMs != nil {
		made.SetDelayTimestamp(time.UnixMilli(*asked.DeliverAtMs))
	}
	return made
}

func receiptOf(receipts []*rmq.SendReceipt, transactional bool) (any, error) {
	if len(receipts) != 1 {
		return nil, fmt.Errorf("%d receipts for one message", len(receipts))
	}
	answer := map[string]string{"messageId": receipts[0].MessageID}
	if transactional && receipts[0].TransactionId != "" {
		answer["transactionId"] = receipts[0].TransactionId
	}
	return answer, nil
}
