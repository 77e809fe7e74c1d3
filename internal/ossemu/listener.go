package ossemu

import (
	"net"
	"sync"
	"time"
)

// Listener gives l the Connect latency of the server's Shape: the first request
// of each connection is read so much later, as behind the handshakes of a
// distant server.
func (s *Server) Listener(l net.Listener) net.Listener { return &listener{l, s} }

type listener struct {
	net.Listener
	s *Server
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &newConn{Conn: conn, s: l.s}, nil
}

// newConn is a connection whose first read is delayed.
type newConn struct {
	net.Conn
	s    *Server
	once sync.Once
}

// NetConn gives the connection itself, whose options a fault sets.
func (c *newConn) NetConn() net.Conn { return c.Conn }

func (c *newConn) Read(p []byte) (int, error) {
	c.once.Do(func() {
		t := time.NewTimer(time.Duration(c.s.shape.load().Connect))
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.s.closing:
		}
	})
	return c.Conn.Read(p)
}
