/* netstack.h: the contract between nanotun's Python and its native stack.
 *
 * This file is written by hand.  nanotun/engine/abi.py repeats it for ctypes,
 * netstack/export.go implements it, and a test compares the first two.
 *
 * Rules that hold for every call
 *  - Handles and flow ids are integers; 0 is never a valid one.
 *  - A call returns 0 or more when it worked and -errno when it did not.
 *  - Nothing blocks but ns_probe and ns_close, and those are bounded.
 *  - All calls for one handle come from one thread, the reactor's.
 *  - Nothing calls back into the caller.  One eventfd is readable while ns_drain
 *    has events.  Events that ns_pump itself raises do not make it readable: the
 *    caller drains after each pump.  NS_EVENT_CLOSED, which nobody waits for,
 *    may come up to 50 ms late.
 *  - NS_EVENT_TCP_REQUEST is made by ns_drain itself, for as many flows as fit a
 *    turn of the reactor: the rest wait until it is called again.
 *  - A panic in a call becomes -ENOTRECOVERABLE and a report on stderr, and the
 *    handle becomes invalid: -EINVAL.  A panic in a thread of the library ends
 *    the process.
 *  - Byte order: ports are in host order, addresses in network order.
 *  - The target of a pointer is only read, unless a call says that it fills it.
 *    There is no const, because cgo cannot declare it on its side.
 */
#ifndef NANOTUN_NETSTACK_H
#define NANOTUN_NETSTACK_H

#include <stddef.h>
#include <stdint.h>

#define NS_ABI_VERSION 9

/* ns_config.stack */
#define NS_STACK_GVISOR 1 /* the whole of gVisor's netstack */
#define NS_STACK_SIMPLE 2 /* the same, but a small TCP for the flows of this machine */

/* ns_event.kind */
#define NS_EVENT_TCP_REQUEST 1 /* a SYN waits for ns_join, ns_refuse or ns_drop */
#define NS_EVENT_ABANDONED 2   /* the app gave up before the decision, or the flow made way for another, or ns_end ended it
                                * (UDP, too); the id is gone.  error
                                * EMFILE: its dial was good, but too many flows are joined (the app hears nothing and
                                * tries again); told of flows of standing decisions, too */
#define NS_EVENT_CLOSED 3      /* a joined flow ended; error is 0 or the errno that ended it.  For UDP flows see ns_follow */
#define NS_EVENT_DEVICE_RETURNED 4 /* a lent device is the caller's to read again */
#define NS_EVENT_UDP_REQUEST 5 /* datagrams wait for ns_attach, ns_serve, ns_refuse or ns_drop */
#define NS_EVENT_ASSOCIATION_CLOSED 6 /* flow is the association's id; error is why, see ns_associate */
#define NS_EVENT_DATAGRAMS 7   /* datagrams for the services wait for ns_receive */
#define NS_EVENT_ASSOCIATION_REFUSED 8 /* a datagram of the association was refused, and it goes on; every 2 s at most */
#define NS_EVENT_NOT_HTTP 9    /* a flow joined with an authority was reset; error is NS_HTTP_... */
#define NS_EVENT_CROWDED 10    /* flows had to make way: error is NS_CROWD_..., flow how many since the last such
                                * event, bytes_up the uid (0xffffffff: not known), bytes_down how many there may be (0: of all together no more),
                                * source the last one's; every 2 s at most for each cause */
#define NS_EVENT_SNIFFED 11    /* ns_name has what a flow's first bytes name */
#define NS_EVENT_JOINED 12     /* ns_dial has joined the flow: bytes_up is how many microseconds the dial took, error the
                                * number of the address, from 0; may come late, as NS_EVENT_CLOSED */
#define NS_EVENT_DIAL_ENDED 13 /* the dial of a flow, which still waits, has ended otherwise, and ns_dialled has how; bytes_up
                                * is the number of the standing decision that has dialled the flow, or 0 */
#define NS_EVENT_DIAL_SILENT 14 /* a dial goes on, but the course's patience is over; from now on the end of the good way is
                                * NS_DIAL_HANDED.  bytes_up as above */
#define NS_EVENT_STOOD 15      /* ns_stood has something; may come late */
#define NS_EVENT_STANDING_ENDED 16 /* flow is the number of a standing decision that is gone, as is the last of its flows */

/* ns_dialled.kind: how a dial ended */
#define NS_DIAL_HANDED 1    /* the other side said something else than what is on the course, or the good way after
                             * NS_EVENT_DIAL_SILENT: fd is the caller's */
#define NS_DIAL_FAILED 2    /* no address could be connected to: error, and address is the last one */
#define NS_DIAL_LOST 3      /* the connection ended during the handshake: error is 0 for an orderly end */
#define NS_DIAL_EXPIRED 4   /* the time is over */
#define NS_DIAL_NO_SOCKET 5 /* no socket could be made: error */
#define NS_DIAL_GENERAL 6   /* it cannot be done this time; dial without the library */

/* ns_dialled.step while there is no connection */
#define NS_DIAL_CONNECTING 65535

/* ns_flow.state */
#define NS_FLOW_WAITING 1     /* for its decision, or for a leg that the caller opens */
#define NS_FLOW_DIALLING 2    /* the library dials */
#define NS_FLOW_OPEN 3        /* joined, though its app may still have to complete the handshake; or attached */
#define NS_FLOW_HALF_CLOSED 4 /* joined, and one direction has ended */

/* What was wrong with TLS, see ns_secure */
#define NS_FLAW_UNTRUSTED 1 /* the certificate is not trusted */
#define NS_FLAW_NO_TLS 2    /* the other side does not speak TLS, or none of ours */
#define NS_FLAW_ENDED 3     /* the connection ended; of a reset there is the errno's name for a reason */

/* What follows the fixed bytes of an answer, see ns_course */
#define NS_TAIL_NONE 0
#define NS_TAIL_SOCKS_ADDRESS 1
#define NS_TAIL_HTTP_HEAD 2

/* Who had too many flows that are not established */
#define NS_CROWD_PROGRAM 1   /* the programs of one user */
#define NS_CROWD_SOURCE 2    /* one other machine */
#define NS_CROWD_MACHINE 3   /* this machine */
#define NS_CROWD_OTHERS 4    /* all other machines together */
#define NS_CROWD_HALF_OPEN 5 /* apps that do not complete what they ask for */

/* Why a flow joined with an authority was reset */
#define NS_HTTP_NOT_HTTP 1      /* the app sent something that is not HTTP/1, or not by the letter */
#define NS_HTTP_UPGRADE 2       /* the app wants another protocol on this connection */
#define NS_HTTP_PROXY_REQUEST 3 /* the app takes the destination for a proxy: CONNECT, absolute-form */
#define NS_HTTP_OTHER_HOST 4    /* Host is another port or address than the app connected to */
#define NS_HTTP_LOGIN 5         /* the proxy's first answer was 407 */
#define NS_HTTP_TOO_LONG 6      /* a request's head of more than 64 KiB */

/* ns_refuse's reason: what the app sees */
#define NS_REFUSE_RESET 1            /* RST: connection refused */
#define NS_REFUSE_HOST_UNREACHABLE 2 /* ICMP host / address unreachable */
#define NS_REFUSE_NET_UNREACHABLE 3  /* ICMP net unreachable / no route */
#define NS_REFUSE_PROHIBITED 4       /* ICMP administratively prohibited */
#define NS_REFUSE_PORT_UNREACHABLE 5 /* ICMP port unreachable; UDP only, as the counterpart of a reset */

/* ns_associate's leg: what datagrams look like on its socket */
#define NS_LEG_DIRECT 1 /* as they are; the socket is not connected */
#define NS_LEG_SOCKS5 2 /* with the header of RFC 1928, section 7; connected to the proxy's UDP relay */

/* ns_associate's flags */
#define NS_LEG_SHARED 1 /* carries DNS queries of many sources; replies are told apart by peer and DNS id */

/* Filled in by the caller of ns_open. */
struct ns_config {
	uint32_t size;            /* sizeof(struct ns_config) */
	int32_t tun_fd;           /* non-blocking; stays the caller's, open until ns_close returned */
	uint32_t mtu;             /* bytes, 1280 to 65535 */
	uint32_t stack;           /* NS_STACK_... */
	uint32_t vnet_header;     /* bytes of virtio-net header on the fd: 0 or 10 */
	uint32_t pending_limit;   /* flows that may wait to be told of, and as many that may wait for a decision; one more
	                           * gets in, and one of whoever has most makes way */
	uint32_t flow_limit;      /* joined flows; an eighth is kept for this machine's own */
	uint32_t half_open_limit; /* of those, the ones whose handshake the app has not completed; one more ends the
	                           * longest-waiting */
	uint32_t half_open_s;     /* such a flow ends after this long */
	uint32_t keepalive_s;     /* TCP keep-alive idle time towards the app; 0: none */
	uint32_t half_closed_s;   /* a half-closed flow without a byte for this long is ended */
	uint32_t association_limit; /* UDP associations; one more closes the one that was idle for longest */
	uint32_t datagram_flow_limit; /* pairs of UDP source and destination, likewise */
	uint32_t udp_timeout_ms;  /* an association without a datagram for this long is closed */
	uint8_t gateway4[4];      /* answers ping; TCP and UDP to it are dropped, but for ns_listen's ports; pings of other
	                           * addresses are refused */
	uint8_t gateway6[16];
	uint8_t kernel4[4];       /* the kernel's addresses on the device: flows from there are this machine's own, and come
	                           * before those of others */
	uint8_t kernel6[16];
	uint32_t device;          /* the TUN's index in this process's network namespace, whose sockets the kernel is asked for,
	                           * to tell programs apart; 0: it is in another one */
};

struct ns_event {
	uint64_t flow;
	uint64_t bytes_up;   /* from the app; NS_EVENT_CLOSED and NS_EVENT_CROWDED only, as bytes_down */
	uint64_t bytes_down;
	uint64_t note;         /* NS_EVENT_CLOSED only, as microseconds and standing */
	uint64_t microseconds; /* since the app asked for the flow; of a UDP flow, until its last datagram */
	uint32_t kind;       /* NS_EVENT_... */
	int32_t error;       /* errno, 0 for none */
	uint16_t source_port;
	uint16_t destination_port;
	uint8_t family;      /* 4 or 6 */
	uint8_t protocol;    /* 6: TCP, 17: UDP */
	uint8_t standing;    /* 1: the flow was one of a standing decision, and no other event was about it */
	uint8_t reserved;
	uint8_t source[16];  /* the first 4 bytes for family 4 */
	uint8_t destination[16];
};

/* A flow as it is now, see ns_flows. */
struct ns_flow {
	uint64_t flow;
	uint64_t note;       /* 0: none yet */
	uint64_t bytes_up;   /* from the app */
	uint64_t bytes_down;
	uint64_t age_us;     /* microseconds since the app asked for it */
	uint64_t idle_us;    /* since its last byte; if there was none, since it was established or asked for */
	uint32_t state;      /* NS_FLOW_... */
	uint16_t source_port;
	uint16_t destination_port;
	uint8_t family;      /* as of ns_event */
	uint8_t protocol;
	uint8_t reserved[6];
	uint8_t source[16];
	uint8_t destination[16];
};

/* The format of ns_receive's and ns_send's datagrams, one after the other: this
 * header, then length bytes of payload, then the next header, aligned or not. */
struct ns_datagram {
	uint32_t length;
	uint16_t source_port;
	uint16_t destination_port;
	uint8_t family;      /* 4 or 6 */
	uint8_t reserved[3];
	uint8_t source[16];  /* the first 4 bytes for family 4 */
	uint8_t destination[16];
};

/* How a dial ended. */
struct ns_dialled {
	uint32_t kind;         /* NS_DIAL_... */
	int32_t error;         /* errno */
	uint32_t step;         /* the number of the step whose answer was waited for, or NS_DIAL_CONNECTING */
	uint32_t address;      /* the number of the address that was tried last */
	int32_t fd;            /* -1: none */
	uint32_t length;       /* of everything that was received */
	uint64_t microseconds; /* since the dial began */
};

/* What was counted for a standing decision since the last time. */
struct ns_stood {
	uint64_t number;
	uint64_t decided;
	uint64_t joined;
	uint64_t microseconds; /* that all the joined dials took together */
	uint64_t abandoned;    /* microseconds that the longest dial had taken whose app gave up, or whose flow made way; 0: none */
	uint32_t address;      /* the number of the address of the last of them */
	uint32_t over;         /* 1: it is gone, and this is the last about it */
};

/* Counters since ns_open, except where "gauge" is written. */
struct ns_stats {
	uint64_t flows;              /* gauge: joined and established now */
	uint64_t pending;            /* gauge: waiting to be told of or for a decision now */
	uint64_t half_open;          /* gauge: joined, and the app has not completed the handshake */
	uint64_t flows_total;        /* joined and established */
	uint64_t refused;
	uint64_t bytes_up;
	uint64_t bytes_down;
	uint64_t packets_in;         /* read from the TUN */
	uint64_t packets_out;        /* written to the TUN */
	uint64_t drop_pending_limit; /* made way for others: too many undecided */
	uint64_t drop_source_limit;  /* made way for its own program's or machine's: too many of that undecided */
	uint64_t drop_flow_limit;    /* SYN turned away: too many joined */
	uint64_t drop_half_open;     /* joined flows that ended half-open: out of time, or made way for another */
	uint64_t drop_malformed;     /* not an IP packet, or a wrong header */
	uint64_t drop_gateway;       /* TCP and UDP to the gateway where nothing listens */
	uint64_t drop_write;         /* the TUN did not take a packet */
	uint64_t stack_dropped;      /* gVisor: dropped packets */
	uint64_t retransmits;        /* gVisor: TCP retransmissions */
	uint64_t checksum_errors;    /* packets with a wrong checksum */
	uint64_t goroutines;         /* gauge */
	uint64_t heap_bytes;         /* gauge: live Go heap */
	uint64_t associations;       /* gauge */
	uint64_t datagram_flows;     /* gauge: pairs of UDP source and destination */
	uint64_t associations_total;
	uint64_t associations_evicted; /* closed to make room for a new one */
	uint64_t datagrams_up;       /* sent by a leg */
	uint64_t datagrams_down;     /* given to the app by a leg */
	uint64_t drop_undecided;     /* datagrams: too many waited for a decision */
	uint64_t drop_send;          /* datagrams: the leg's socket did not take them */
	uint64_t drop_reply;         /* datagrams of a leg: a wrong header, or no app expects them */
	uint64_t drop_service;       /* datagrams: the services do not keep up */
};

/* NS_ABI_VERSION of the library.  Compare it before any other call. */
uint32_t ns_abi_version(void);

/* Tells whether segmentation offload really works on tun_fd, by a TCP stream
 * each way through the device: 1 it does, 0 it does not.  address4 is the
 * kernel's address on the device, gateway4 the peer the library plays.
 * Blocks for at most timeout_ms.  Call it before ns_open, never beside it. */
int ns_probe(int tun_fd, uint32_t vnet_header, uint32_t mtu, char *device,
             uint8_t gateway4[4], uint32_t timeout_ms);

/* Makes a stack on an open, configured TUN.  Returns its handle.  -EINVAL: a
 * configuration of another size, an unknown stack, or a limit or half_open_s of 0. */
int64_t ns_open(struct ns_config *config);

/* The eventfd, readable when events wait that ns_pump did not raise.  It belongs
 * to the library. */
int ns_event_fd(int64_t handle);

/* Reads packets from the TUN until it is empty, budget packets were read or
 * events wait.  Returns the packets read: none while the device is lent.
 * -EBADFD: the device is gone.  -EIO: it is down. */
int ns_pump(int64_t handle, uint32_t budget);

/* Lends the device: a thread of the library reads it, until it has been silent
 * for 20 ms or fails.  Then NS_EVENT_DEVICE_RETURNED comes and the caller
 * watches the fd again.  For busy times: no packet wakes the caller then.
 * -EBUSY: it is lent already. */
int ns_lend(int64_t handle);

/* Moves up to capacity events to the array and returns how many.  The eventfd
 * is no longer readable once all were taken, and stays readable while there are more flows
 * to tell of. */
int ns_drain(int64_t handle, struct ns_event *events, uint32_t capacity);

/* Completes the handshake with the app and joins the flow to fd, a connected
 * stream socket: bytes, half-close and reset are carried in both directions from
 * now on.  leftover is sent to the app first.  The library owns fd from now on,
 * also if the call fails.  note is any number of the caller's, which is listed with the flow
 * and told with its end; 0 leaves it as it is.  -ENOENT: no such flow waits (the app gave up).  -EMFILE: too
 * many flows are joined; the app hears nothing and may try again.
 *
 * authority, if not NULL, says that fd leads to an HTTP proxy which has not been asked
 * for a destination: the app's requests are sent in absolute-form (RFC 9112, section
 * 3.2.2).  It is a host without a port, and stands in for a missing Host and for the
 * address that the app connected to.  authorization is the value of
 * Proxy-Authorization; NULL or empty for none.  What cannot be sent like this is reset on both sides,
 * with NS_EVENT_NOT_HTTP before NS_EVENT_CLOSED (EPROTO). */
int ns_join(int64_t handle, uint64_t flow, int fd, void *leftover, size_t length,
            char *authority, char *authorization, uint64_t note);

/* Finds out what name a waiting flow asks for in its first bytes: in a TLS ClientHello, the
 * Host of an HTTP/1 request, or a QUIC Initial.  A TCP flow is accepted for that, without an
 * upstream: from now on ns_refuse and ns_drop reset it.  At most once for a flow.  1: ns_name
 * has it now.  0: NS_EVENT_SNIFFED follows, for TCP at most a second after the app has
 * completed the handshake, for UDP within 100 ms; unless the flow is decided or
 * NS_EVENT_ABANDONED comes before.  -ENOENT: no such flow waits.  -EALREADY: a second call.
 * -EMFILE: too many flows are joined; the flow still waits as it was. */
int ns_sniff(int64_t handle, uint64_t flow);

/* Writes the name that a flow, which still waits, was found to ask for to buffer, which has
 * room for 255 bytes, and returns its length: 0 for none.  It is as the app wrote it: any
 * bytes.  outer becomes 1 if the name may only stand for an encrypted one (Encrypted Client
 * Hello), else 0.  -ENOENT: there is no such flow that ns_sniff was called for. */
int ns_name(int64_t handle, uint64_t flow, void *buffer, uint32_t *outer);

/* Ends these flows.  Joined ones are reset on both sides; NS_EVENT_CLOSED (ECONNABORTED) follows
 * for each.  Those that wait or are dialled are refused with a reset; NS_EVENT_ABANDONED follows
 * for each that the caller was told of.  UDP flows are forgotten, with the same events: their next
 * datagram is a new request.  Returns how many of them there were. */
int ns_end(int64_t handle, uint64_t *flows, size_t count);

/* Fills the array with the flows whose ids are the lowest greater than after, in ascending order:
 * TCP flows, and the UDP flows that wait or are attached.  Returns how many there were; less than
 * capacity if that is all.  What is carried does not wait.  after: 0, or the last flow of the array
 * before: then what it is filled with is as it was when that was asked for, a second ago at most.
 * A flow that exists from the first call to the last is listed once; one that begins or ends
 * meanwhile may be. */
int ns_flows(int64_t handle, uint64_t after, struct ns_flow *flows, uint32_t capacity);

/* on: 1 NS_EVENT_CLOSED comes for attached UDP flows as well, and for flows of standing decisions;
 * 0, as at first: it does not.  The error of a UDP flow is 0 when its datagrams have ceased or the caller
 * ended its association, ECONNABORTED after ns_end, ENOBUFS when it made room, or that of its association. */
int ns_follow(int64_t handle, uint32_t on);

/* Keeps a course, what the dials of an upstream have in common, and returns its number.  In
 * this machine's byte order and without padding, blob is
 *   uint32 mark (0: none), milliseconds for a dial, TCP_USER_TIMEOUT in milliseconds (0: not
 *   set), milliseconds until NS_EVENT_DIAL_SILENT (0: never), number of ns_tls (0: no TLS);
 *   uint16 number of addresses (1 to 64), number of steps (0 to 16);
 *   each address: uint16 family, length; so many bytes of a struct sockaddr for connect(2);
 *   each step: uint8 own, tail (NS_TAIL_...); uint16 length of send, length of the fixed
 *   bytes of the answer, 0; then send, and mask and value of the fixed bytes.
 * A step sends send, and if own is 1 the flow's own bytes.  Then an answer is waited for: the
 * fixed bytes, whose bits in mask are as in value, and a tail.  NS_TAIL_SOCKS_ADDRESS: the rest
 * of a SOCKS5 reply, of whose 4 fixed bytes the last is the address's type.  NS_TAIL_HTTP_HEAD:
 * the answer, with its fixed bytes, is the head of an HTTP/1 answer of 2xx.  Without fixed bytes
 * and tail there is no answer.  Bytes behind an answer belong to the next one if nothing is to be
 * sent before; behind the last one they go to the app.  Everything else, and more than
 * 64 KiB, is NS_DIAL_HANDED.  With TLS its message comes first of all that is received, see
 * ns_secure, and all steps are inside; the connection of NS_DIAL_HANDED is a lent one then.
 * -EINVAL: it is not by the letter. */
int ns_course(int64_t handle, void *blob, size_t length);

/* Forgets a course; dials under way go on.  -EINVAL: there is none of that number. */
int ns_uncourse(int64_t handle, uint32_t course);

/* Has a waiting flow dialled: the library connects to the first address that answers, goes
 * through the steps, and joins the flow as ns_join does.  NS_EVENT_JOINED follows, or
 * NS_EVENT_DIAL_ENDED.  The flow waits meanwhile: ns_join, ns_refuse and ns_drop are still
 * allowed, and drop the dial, as does NS_EVENT_ABANDONED.  The connection is reset then.
 * fd is -1; or a connected stream socket that waited, on which step first begins.  The
 * library owns it from now on, also if the call fails.  request is the flow's own bytes, note as of ns_join.
 * -ENOENT: no such flow waits.  -EALREADY: it has a dial whose end was not taken.  -EINVAL: there
 * is no such course, or no such step. */
int ns_dial(int64_t handle, uint64_t flow, uint32_t course, int fd, uint32_t first, void *request, size_t length,
            uint64_t note);

/* Drops a flow's dial, or its end, with the connection; the flow waits on.  -ENOENT: there is
 * none. */
int ns_undial(int64_t handle, uint64_t flow);

/* Takes the end of a flow's dial, once after NS_EVENT_DIAL_ENDED; what was received goes to
 * buffer, as much as fits: 65,536 bytes hold all.  -ENOENT: there is none; the flow is gone,
 * with the connection. */
int ns_dialled(int64_t handle, uint64_t flow, struct ns_dialled *end, void *buffer, size_t capacity);

/* Has the flows to a destination dialled without NS_EVENT_TCP_REQUEST: family, destination
 * and destination_port count.  ours: 1 those of this machine, 0 those of others.  milliseconds: for
 * how long; 0: until it is withdrawn.  It replaces an earlier one of the same key, and at most
 * 65,536 stand at a time: the one that was not used for longest goes.  note is that of its flows.  Returns its number.
 * -EINVAL: there is no such course. */
int64_t ns_stand(int64_t handle, struct ns_datagram *destination, uint32_t ours, uint32_t course,
                 void *request, size_t length, uint32_t milliseconds, uint64_t note);

/* Ends all standing decisions.  NS_EVENT_STANDING_ENDED follows for each. */
int ns_withdraw(int64_t handle);

/* Moves what was counted for standing decisions to the array, and returns how many there
 * were; call it until they are less than capacity. */
int ns_stood(int64_t handle, struct ns_stood *array, uint32_t capacity);

/* Keeps a configuration of TLS and returns its number; the same one has the same number, and stays
 * for as long as the process.  authorities: PEM with the certificates to trust; empty for the
 * system's.  insecure: 1 to trust any certificate.  host: the name or address that the certificate
 * has to be for; a name is sent as well.  protocols: to offer (ALPN), with commas between them.
 * -EINVAL: there is no certificate in authorities. */
int ns_tls(void *authorities, size_t length, uint32_t insecure, char *host, char *protocols);

/* Begins TLS on a connected stream socket, or in what it was lent for, and returns the end of a
 * socket pair that is lent for what is inside.  The library owns fd from now on, also if the
 * call fails.  early: what was received on it already.  The first to be read from the end is a
 * message: 0 once the handshake is done; or NS_FLAW_..., a byte with a length, and so many bytes
 * of a reason, before the end.  Whoever closes a lent end closes the connection; ns_join and
 * ns_dial, given a lent end, take the connection itself, with all that is on the way.
 * -EINVAL: there is no such configuration.  Else -errno: no socket pair could be made. */
int ns_secure(int fd, uint32_t tls, void *early, size_t length);

/* Duplicates the socket that a lent end leads to.  -ENOENT: it is no lent end. */
int ns_lent_socket(int fd);

/* Carries bytes between two stream sockets, which may still be connecting, until both have ended
 * or one has failed, which resets the other.  The library owns both from now on, also if the
 * call fails. */
int ns_couple(int one, int other);

/* How many such couples there are that are not over. */
int ns_couples(void);

/* For tests: runs the steps of a course, from first on, on bytes that were received all at once.
 * Returns the state: 0 more is needed, 1 it was good, and used is where the handshake ended, 2 it is
 * NS_DIAL_HANDED; plus 256 for each byte that would have been sent, of which as many as fit are
 * in sent.  -EINVAL: as for ns_course, or no such step. */
int ns_rehearse(void *blob, size_t length, uint32_t first, void *request, size_t request_length,
                void *received, size_t received_length, void *sent, size_t capacity, uint32_t *used);

/* Tells the app that it cannot have this flow.  The library remembers the refusal
 * of a UDP flow for two seconds, and repeats it for each datagram. */
int ns_refuse(int64_t handle, uint64_t flow, uint32_t reason);

/* Forgets the flow; the app hears nothing and may try again.  The datagrams of a
 * UDP flow are dropped for two seconds more before it becomes a request again. */
int ns_drop(int64_t handle, uint64_t flow);

/* Makes an association: one leg, through which datagrams of one source (of any
 * number of sources with NS_LEG_SHARED) reach any destination, and any host's
 * reply reaches that source.  The library owns fd, a non-blocking datagram
 * socket, from now on, also if the call fails.  Returns the association's id,
 * which is not in the sequence of flow ids.  An association ends with
 * NS_EVENT_ASSOCIATION_CLOSED, except by ns_dissociate and ns_close: ETIMEDOUT, it was idle; ENOBUFS, it made room for a new one; else the
 * errno of its socket.
 * An association with a name (length > 0: at most 255 bytes of ASCII; NS_LEG_SOCKS5
 * only, and not NS_LEG_SHARED) sends that name in place of every destination's address,
 * with the destination's port.  It takes the flows of one source to one address; whoever
 * replies, the app sees that address as the sender, with the port of the reply.
 * -EINVAL: a name where there may be none. */
int64_t ns_associate(int64_t handle, int fd, uint32_t leg, uint32_t flags, void *name, size_t length);

/* Sends the flow's datagrams, those that wait and those to come, through the
 * association.  to, if not NULL, is where they really go: its destination, port and
 * family count; replies from there look to the app as if from the address it knows.
 * note is as of ns_join.
 * -ENOENT: no such flow waits.  -EBADF: no such association, or one that belongs to
 * another source, or with its name to another address; the flow still waits.  -EINVAL:
 * to, with an association that has a name.
 * -EEXIST: the association is shared and cannot tell the replies to this flow's
 * datagrams from others': they are no queries, or one like this is under way; the flow
 * still waits. */
int ns_attach(int64_t handle, uint64_t flow, int64_t association, struct ns_datagram *to, uint64_t note);

/* Ends an association without an event.  Its flows become requests again with
 * their next datagram. */
int ns_dissociate(int64_t handle, int64_t association);

/* From now on the flow's datagrams are read with ns_receive. */
int ns_serve(int64_t handle, uint64_t flow);

/* Opens this port of the gateway: a TCP connection to it becomes a request, and
 * datagrams to it are read with ns_receive.  protocol: 6 or 17. */
int ns_listen(int64_t handle, uint32_t protocol, uint32_t port);

/* Moves datagrams for the services to buffer, each behind its header, as many as
 * fit; source is the app's.  Returns the bytes written, 0 when none is left.
 * buffer must have room for the largest: 65,579 bytes. */
int ns_receive(int64_t handle, void *buffer, size_t capacity);

/* Sends datagrams to apps; source is what the app is to see as the sender.
 * Returns how many there were.  -EINVAL: a wrong header; the datagrams before it
 * were sent. */
int ns_send(int64_t handle, void *buffer, size_t length);

/* Takes no new flows, and resets joined flows as soon as they have no bytes under
 * way.  Returns how many are left. */
int ns_quiesce(int64_t handle);

int ns_stats(int64_t handle, struct ns_stats *stats);

/* Resets what is left on both sides, stops every thread of this handle and
 * frees it.  Blocks for at most a second. */
int ns_close(int64_t handle);

#endif
