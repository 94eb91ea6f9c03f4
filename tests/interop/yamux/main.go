// A peer for tport's multiplexer, on hashicorp's own yamux.
//
//	goyamux client|server dial|listen HOST:PORT
//
// The yamux client opens streams, the yamux server accepts them, whoever dialled the TCP
// connection. A stream carries an order: 8 bytes, big endian, then
//
//	n < RESET_ME:  n bytes follow; the answer is their SHA-256 (32 bytes), then the bytes
//	RESET_ME:      the other side shall reset this stream
//
// No order depends on half-close: Stream.Close ends the closer's own reading too.
//
// The server first waits for a line on standard input, so that its backlog of 8 can be filled.
// The last line on standard output is the result, as JSON.
package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"

	"github.com/hashicorp/yamux"
)

const (
	streams = 20
	size    = 300000
	resets  = 5
	resetMe = ^uint64(0)
	backlog = 8
)

type result struct {
	mutex     sync.Mutex
	Exchanges int      `json:"exchanges"`
	Resets    int      `json:"resets"`
	Errors    []string `json:"errors"`
}

func (r *result) count(err error, what *int) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if err != nil {
		r.Errors = append(r.Errors, err.Error())
	} else {
		*what++
	}
}

func connect(how, address string) (net.Conn, error) {
	if how == "dial" {
		return net.Dial("tcp", address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	fmt.Println(listener.Addr().String())
	return listener.Accept()
}

// ask opens a stream, sends random bytes and checks what comes back.
func ask(session *yamux.Session) error {
	stream, err := session.OpenStream()
	if err != nil {
		return err
	}
	defer stream.Close()
	data := make([]byte, size)
	rand.Read(data)
	sum := sha256.Sum256(data)
	sent := make(chan error, 1)
	go func() {
		var head [8]byte
		binary.BigEndian.PutUint64(head[:], size)
		_, err := stream.Write(append(head[:], data...))
		sent <- err
	}()
	answer := make([]byte, sha256.Size+size)
	if _, err := io.ReadFull(stream, answer); err != nil {
		return err
	}
	if !bytes.Equal(answer[:sha256.Size], sum[:]) || !bytes.Equal(answer[sha256.Size:], data) {
		return errors.New("the answer is not what was sent")
	}
	return <-sent
}

// askForReset opens a stream and expects it to be reset.
func askForReset(session *yamux.Session) error {
	stream, err := session.OpenStream()
	if err != nil {
		return err
	}
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], resetMe)
	if _, err := stream.Write(head[:]); err != nil {
		return err
	}
	if _, err := stream.Read(head[:]); err != yamux.ErrConnectionReset {
		return fmt.Errorf("expected a reset, found %v", err)
	}
	return nil
}

func runClient(session *yamux.Session, found *result) {
	var all sync.WaitGroup
	for i := 0; i < streams; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			found.count(ask(session), &found.Exchanges)
		}()
	}
	for i := 0; i < resets; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			found.count(askForReset(session), &found.Resets)
		}()
	}
	all.Wait()
	if err := session.GoAway(); err != nil {
		found.count(err, nil)
	}
	<-session.CloseChan()
}

// answer serves one stream and says whether it ended in an exchange or in a reset.
func answer(stream *yamux.Stream, found *result) {
	defer stream.Close()
	var head [8]byte
	data := []byte{}
	_, err := io.ReadFull(stream, head[:])
	if err == nil {
		data = make([]byte, binary.BigEndian.Uint64(head[:]))
		_, err = io.ReadFull(stream, data)
	}
	if err == nil {
		sum := sha256.Sum256(data)
		_, err = stream.Write(append(sum[:], data...))
	}
	if err == yamux.ErrConnectionReset {
		found.count(nil, &found.Resets)
	} else {
		found.count(err, &found.Exchanges)
	}
}

func runServer(session *yamux.Session, found *result) {
	bufio.NewReader(os.Stdin).ReadString('\n')
	var all sync.WaitGroup
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			break
		}
		all.Add(1)
		go func() {
			defer all.Done()
			answer(stream, found)
		}()
	}
	all.Wait()
}

func main() {
	conn, err := connect(os.Args[2], os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	found := &result{Errors: []string{}}
	if os.Args[1] == "client" {
		session, err := yamux.Client(conn, config)
		if err != nil {
			log.Fatal(err)
		}
		runClient(session, found)
	} else {
		config.AcceptBacklog = backlog
		session, err := yamux.Server(conn, config)
		if err != nil {
			log.Fatal(err)
		}
		runServer(session, found)
	}
	json.NewEncoder(os.Stdout).Encode(found)
}
