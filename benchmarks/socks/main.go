// A SOCKS5 proxy in one process with many threads, as proxies written in Go are: CONNECT
// without a password.
//
//	go run main.go 127.0.0.1:1083
package main

import (
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"strconv"
)

var errRefused = errors.New("not a CONNECT without a password")

// target reads the greeting and the request, and returns the destination.
func target(client net.Conn) (string, error) {
	head := make([]byte, 256)
	if _, err := io.ReadFull(client, head[:2]); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(client, head[:head[1]]); err != nil {
		return "", err
	}
	if _, err := client.Write([]byte{5, 0}); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(client, head[:4]); err != nil {
		return "", err
	}
	kind := head[3]
	if head[1] != 1 {
		return "", errRefused
	}
	size := net.IPv4len
	switch kind {
	case 1:
	case 4:
		size = net.IPv6len
	case 3:
		if _, err := io.ReadFull(client, head[:1]); err != nil {
			return "", err
		}
		size = int(head[0])
	default:
		return "", errRefused
	}
	rest := make([]byte, size+2)
	if _, err := io.ReadFull(client, rest); err != nil {
		return "", err
	}
	host := string(rest[:size])
	if kind != 3 {
		host = net.IP(rest[:size]).String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(rest[size:])))), nil
}

func pass(to, from net.Conn, done chan<- struct{}) {
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite()
	done <- struct{}{}
}

func serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	address, err := target(client)
	if err != nil {
		return
	}
	server, err := net.Dial("tcp", address)
	if err != nil {
		log.Print(err)
		_, _ = client.Write([]byte{5, 1, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	defer func() { _ = server.Close() }()
	if _, err := client.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go pass(server, client, done)
	go pass(client, server, done)
	<-done
	<-done
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(client)
	}
}
