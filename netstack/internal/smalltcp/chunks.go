package smalltcp

import "sync"

const (
	// chunkSize is a little less than one segment of the link can carry, in bytes.
	chunkSize = 60 << 10

	// smallChunk is the most bytes that get a chunk of their own size.
	smallChunk = 4 << 10

	// leastChunk is the size of the smallest chunk, so that many bytes that come one by
	// one share one.
	leastChunk = 64
)

var pool = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// chunk is a piece of a stream.
type chunk struct {
	data  []byte
	large *[chunkSize]byte // what data is in, if it goes back to the pool
}

// newChunk is an empty chunk with room for size bytes, or for chunkSize if that is less.
func newChunk(size int) chunk {
	if size <= smallChunk {
		return chunk{data: make([]byte, 0, max(size, leastChunk))}
	}
	large := pool.Get().(*[chunkSize]byte)
	return chunk{data: large[:0], large: large}
}

func (k *chunk) free() {
	if k.large != nil {
		pool.Put(k.large)
	}
	*k = chunk{}
}

// chunks is a piece of a stream that grows at its end and is taken from its beginning.
type chunks struct {
	list []chunk
	size int // in bytes
}

// add appends a chunk, which belongs to the list from now on.
func (s *chunks) add(k chunk) {
	s.list = append(s.list, k)
	s.size += len(k.data)
}

// room returns the unused part of the last chunk, or of a new one.
func (s *chunks) room(size int) []byte {
	if n := len(s.list); n > 0 {
		if last := s.list[n-1].data; len(last) < cap(last) {
			return last[len(last):cap(last)]
		}
		size = chunkSize
	}
	k := newChunk(size)
	s.list = append(s.list, k)
	return k.data[:cap(k.data)]
}

// extend says how much of room was filled.
func (s *chunks) extend(n int) {
	last := &s.list[len(s.list)-1]
	last.data = last.data[:len(last.data)+n]
	s.size += n
}

// store appends a copy.
func (s *chunks) store(p []byte) {
	for len(p) > 0 {
		n := copy(s.room(len(p)), p)
		s.extend(n)
		p = p[n:]
	}
}

// drop takes n bytes from the beginning.
func (s *chunks) drop(n int) {
	s.size -= n
	done := 0
	for done < len(s.list) && n >= len(s.list[done].data) {
		n -= len(s.list[done].data)
		s.list[done].free()
		done++
	}
	if done > 0 {
		left := copy(s.list, s.list[done:])
		clear(s.list[left:])
		s.list = s.list[:left]
	}
	if n > 0 {
		s.list[0].data = s.list[0].data[n:]
	}
	if len(s.list) == 0 {
		s.list = nil
	}
}

// at is what there is from offset on, up to the end of a chunk.
func (s *chunks) at(offset int) []byte {
	for i := range s.list {
		if data := s.list[i].data; offset < len(data) {
			return data[offset:]
		} else {
			offset -= len(data)
		}
	}
	return nil
}

func (s *chunks) clear() {
	for i := range s.list {
		s.list[i].free()
	}
	*s = chunks{}
}
