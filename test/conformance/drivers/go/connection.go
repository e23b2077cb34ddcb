package main

import (
	"os"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// logToStderr: the client logs into a file below $user.home, or to "standard output", which is ours to keep clean. It
// reads its settings from the environment when it is loaded; nothing is opened before the first line is written, so
// that setting them here and asking it to look again is early enough.
func logToStderr() {
	os.Setenv(rmq.ENABLE_CONSOLE_APPENDER, "true")
	os.Setenv(rmq.CLIENT_LOG_LEVEL, "error")
	os.Stdout = os.Stderr
	rmq.ResetLogger()
}

// connectBy: the client knows only TLS (without verifying), and its options for connections reach no connection: the
// client manager makes its RPC clients without them. That constructor is a variable, and the last dial option wins.
func connectBy(options ...grpc.DialOption) {
	plain := rmq.NewRpcClient
	ours := rmq.WithRpcClientConnOption(rmq.WithDialOptions(options...))
	rmq.NewRpcClient = func(target string, theirs ...rmq.RpcClientOption) (rmq.RpcClient, error) {
		return plain(target, append(theirs, ours)...)
	}
}

func dialOptions(tls bool, settled *settled) []grpc.DialOption {
	options := []grpc.DialOption{grpc.WithStreamInterceptor(settled.listen)}
	if !tls {
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	return options
}
