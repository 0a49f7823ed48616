// What coordinators are asked: heartbeats, offset commits, transactions.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	loadInProgress     = 14
	notAvailable       = 15
	notCoordinator     = 16
	unknownPartition   = 3
	rebalanceUnderWay  = 27
	memberIDRequired   = 79
	heartbeatEvery     = 3 * time.Second
	settleWithin       = 5 * time.Minute
	coordinatorRetries = 600
)

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench"))

// raw is one connection that asks one thing at a time.
type raw struct {
	net.Conn
	last int32
}

func dial() *raw {
	c, err := net.Dial("tcp", strings.Split(*bootstrap, ",")[0])
	die(err)
	return &raw{Conn: c}
}

func (c *raw) call(req kmsg.Request, version int16) kmsg.Response {
	req.SetVersion(version)
	c.last++
	_, err := c.Write(formatter.AppendRequest(nil, req, c.last))
	die(err)
	var head [8]byte
	_, err = io.ReadFull(c, head[:])
	die(err)
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	_, err = io.ReadFull(c, body)
	die(err)
	if req.IsFlexible() {
		body = body[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(version)
	die(resp.ReadFrom(body))
	return resp
}

// serverCPU is what the server's processes have used, in seconds.
func serverCPU() float64 {
	total := 0.0
	for _, pid := range strings.Split(*pids, ",") {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		die(err)
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		for _, field := range fields[11:13] {
			ticks, err := strconv.Atoi(string(field))
			die(err)
			total += float64(ticks) / 100
		}
	}
	return total
}

func quantile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return -1
	}
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// again tells whether a coordinator is only not there yet.
func again(code int16) bool {
	return code == loadInProgress || code == notAvailable || code == notCoordinator
}

// findCoordinators makes the server create the coordinators' topic and waits for it.
func findCoordinators(c *raw, groups []string) {
	for range coordinatorRetries {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKeys = groups
		missing := false
		for _, one := range c.call(req, 4).(*kmsg.FindCoordinatorResponse).Coordinators {
			missing = missing || one.ErrorCode != 0
		}
		if !missing {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	die(errors.New("no coordinator"))
}

// group is what its members know of one another while they settle.
type group struct {
	name        string
	mu          sync.Mutex
	generations map[string]int32
}

func (g *group) note(member string, generation int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.generations[member] = generation
}

func (g *group) settled() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.generations) < *members {
		return false
	}
	first := int32(-1)
	for _, generation := range g.generations {
		if first >= 0 && generation != first {
			return false
		}
		first = generation
	}
	return true
}

type member struct {
	*raw
	group      *group
	id         string
	generation int32
}

// join joins until this member has an assignment.
func (m *member) join() {
	for {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.ProtocolType = m.group.name, m.id, "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 45000, 60000
		protocol := kmsg.NewJoinGroupRequestProtocol()
		protocol.Name, protocol.Metadata = "range", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		req.Protocols = append(req.Protocols, protocol)
		resp := m.call(req, 5).(*kmsg.JoinGroupResponse)
		if resp.ErrorCode == memberIDRequired {
			m.id = resp.MemberID
			continue
		}
		if again(resp.ErrorCode) {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if resp.ErrorCode != 0 {
			die(fmt.Errorf("join: code %d", resp.ErrorCode))
		}
		m.id, m.generation = resp.MemberID, resp.Generation
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.MemberID, sync.Generation = m.group.name, m.id, m.generation
		for _, one := range resp.Members {
			part := kmsg.NewSyncGroupRequestGroupAssignment()
			part.MemberID, part.MemberAssignment = one.MemberID, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			sync.GroupAssignment = append(sync.GroupAssignment, part)
		}
		if m.call(sync, 3).(*kmsg.SyncGroupResponse).ErrorCode == 0 {
			m.group.note(m.id, m.generation)
			return
		}
	}
}

func (m *member) heartbeat() int16 {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = m.group.name, m.id, m.generation
	return m.call(req, 3).(*kmsg.HeartbeatResponse).ErrorCode
}

// settle joins, and joins again, until all members of the group are of one generation.
func (m *member) settle() {
	deadline := time.Now().Add(settleWithin)
	m.join()
	for !m.group.settled() {
		if time.Now().After(deadline) {
			die(fmt.Errorf("group %s does not settle", m.group.name))
		}
		if m.heartbeat() != 0 {
			m.join()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// heartbeats: groups of members that do nothing but stay.
func heartbeats(_ context.Context) map[string]any {
	var all []*member
	names := make([]string, *groups)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", *topic, i)
	}
	findCoordinators(dial(), names)
	start := time.Now()
	var settling sync.WaitGroup
	places := make(chan struct{}, 32)
	for _, name := range names {
		g := &group{name: name, generations: map[string]int32{}}
		mine := make([]*member, *members)
		for i := range mine {
			mine[i] = &member{raw: dial(), group: g}
		}
		all = append(all, mine...)
		places <- struct{}{}
		settling.Add(1)
		go func() {
			defer func() { <-places; settling.Done() }()
			var wg sync.WaitGroup
			for _, m := range mine {
				wg.Add(1)
				go func() { defer wg.Done(); m.settle() }()
			}
			wg.Wait()
		}()
	}
	settling.Wait()
	settled := time.Since(start).Seconds()
	var sent, failed atomic.Int64
	var wg sync.WaitGroup
	begun, cpu := time.Now(), serverCPU()
	for _, m := range all {
		wg.Add(1)
		go func() {
			defer wg.Done()
			time.Sleep(time.Duration(rand.Int64N(int64(heartbeatEvery))))
			for time.Since(begun) < time.Duration(*secs)*time.Second {
				if m.heartbeat() != 0 {
					failed.Add(1)
				}
				sent.Add(1)
				time.Sleep(heartbeatEvery)
			}
		}()
	}
	time.Sleep(time.Duration(*secs) * time.Second)
	used := serverCPU() - cpu
	wg.Wait()
	return map[string]any{"groups": *groups, "members": len(all), "heartbeats": sent.Load(), "failed": failed.Load(), "settle_s": settled, "window_cpu": used}
}

func commit(c *raw, group string, offset int64) int16 {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = *topic
	one := kmsg.NewOffsetCommitRequestTopicPartition()
	one.Offset = offset
	t.Partitions = append(t.Partitions, one)
	req.Topics = append(req.Topics, t)
	for _, topic := range c.call(req, 8).(*kmsg.OffsetCommitResponse).Topics {
		for _, one := range topic.Partitions {
			if one.ErrorCode != 0 {
				return one.ErrorCode
			}
		}
	}
	return 0
}

func settledCommit(c *raw, group string) {
	for range coordinatorRetries {
		code := commit(c, group, 0)
		if code == 0 {
			return
		}
		if !again(code) && code != unknownPartition {
			die(fmt.Errorf("commit: code %d", code))
		}
		time.Sleep(100 * time.Millisecond)
	}
	die(errors.New("no commit was taken"))
}

// commits: a fixed rate of commits of one offset each, from clients with a group each.
func commits(ctx context.Context) map[string]any {
	ensureTopic(ctx, *topic, *partitions)
	conns := make([]*raw, *clients)
	for i := range conns {
		conns[i] = dial()
		name := fmt.Sprintf("%s-%d", *topic, i)
		findCoordinators(conns[i], []string{name})
		settledCommit(conns[i], name)
	}
	var mu sync.Mutex
	var took []float64
	var failed atomic.Int64
	var wg sync.WaitGroup
	gap := time.Second * time.Duration(*clients) / time.Duration(*rate)
	begun, cpu := time.Now(), serverCPU()
	for i, c := range conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var mine []float64
			name, phase := fmt.Sprintf("%s-%d", *topic, i), time.Duration(rand.Int64N(int64(gap)))
			for n := 0; n < *secs**rate / *clients; n++ {
				due := phase + time.Duration(n)*gap
				if wait := due - time.Since(begun); wait > 0 {
					time.Sleep(wait)
				}
				if commit(c, name, int64(n)) != 0 {
					failed.Add(1)
				}
				mine = append(mine, float64(time.Since(begun)-due)/1e6)
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		}()
	}
	wg.Wait()
	used := serverCPU() - cpu
	sort.Float64s(took)
	return map[string]any{"commits": len(took), "failed": failed.Load(), "secs": time.Since(begun).Seconds(), "window_cpu": used,
		"ack_p50": quantile(took, .5), "ack_p99": quantile(took, .99)}
}

// transactions: short ones, one after another from each producer.
func transactions(ctx context.Context) map[string]any {
	ensureTopic(ctx, *topic, *partitions)
	var mu sync.Mutex
	var took []float64
	var wg sync.WaitGroup
	value := make([]byte, 100)
	cpu, begun := serverCPU(), time.Now()
	for i := range *clients {
		*linger = 0
		cl, err := kgo.NewClient(append(producerOpts(), kgo.TransactionalID(fmt.Sprintf("%s-%d", *topic, i)))...)
		die(err)
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer cl.Close()
			var mine []float64
			for range *count {
				die(cl.BeginTransaction())
				for range 10 {
					cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) { die(err) })
				}
				die(cl.Flush(ctx))
				at := time.Now()
				die(cl.EndTransaction(ctx, kgo.TryCommit))
				mine = append(mine, float64(time.Since(at))/1e6)
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		}()
	}
	wg.Wait()
	sort.Float64s(took)
	return map[string]any{"transactions": len(took), "secs": time.Since(begun).Seconds(), "window_cpu": serverCPU() - cpu,
		"commit_p50": quantile(took, .5), "commit_p99": quantile(took, .99)}
}
