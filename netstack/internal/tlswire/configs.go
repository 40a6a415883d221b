package tlswire

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// configLimit is how many configurations there may be, which stay for as long as the process:
// one for each proxy, and each time that its certificates have changed on a reload.
const configLimit = 1 << 16

// configs are those that Python may name, by their numbers.
var configs struct {
	sync.Mutex
	numbers map[[sha256.Size]byte]uint32
	known   []*tls.Config // that of number 1 first
}

// Number keeps a configuration, and returns its number, which is never 0. The same options
// have the same one, also after a reload. EINVAL: there is no certificate in the authorities.
func Number(options Options) (uint32, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%q %v %q %q", options.Authorities, options.Insecure, options.Protocols, options.Host))
	configs.Lock()
	defer configs.Unlock()
	if number := configs.numbers[key]; number != 0 {
		return number, nil
	}
	if len(configs.known) >= configLimit {
		return 0, unix.ENOSPC
	}
	config, err := Config(options)
	if err != nil {
		return 0, unix.EINVAL
	}
	if configs.numbers == nil {
		configs.numbers = make(map[[sha256.Size]byte]uint32)
	}
	configs.known = append(configs.known, config)
	number := uint32(len(configs.known))
	configs.numbers[key] = number
	return number, nil
}

// Numbered returns nil if there is none of that number.
func Numbered(number uint32) *tls.Config {
	configs.Lock()
	defer configs.Unlock()
	if number == 0 || int(number) > len(configs.known) {
		return nil
	}
	return configs.known[number-1]
}
