//! Every bound of the system, in one place.
//!
//! What a user may want to change is a field of [`crate::base::config`]; these are the defaults
//! and the hard ends. Reaching a bound gives back-pressure or a clear refusal.

/// Longest destination name, bytes.
pub const DESTINATION_BYTES_MAX: usize = 255;
/// Longest message key, bytes.
pub const KEY_BYTES_MAX: usize = 255;
/// Most headers of a message.
pub const HEADERS_MAX: usize = 64;
/// Longest header name or value, bytes.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Longest key and headers together, bytes.
pub const HEADERS_TOTAL_BYTES_MAX: usize = 32 * 1024;
/// Longest body, bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest content: key, headers and body with their lengths, bytes.
pub const CONTENT_BYTES_MAX: usize = BODY_BYTES_MAX + HEADERS_TOTAL_BYTES_MAX + 1024;
/// Highest priority; 0 is the lowest, 4 the default.
pub const PRIORITY_MAX: u8 = 9;
/// Priority of a message that names none.
pub const PRIORITY_DEFAULT: u8 = 4;
/// Longest deduplication id, bytes.
pub const DEDUP_BYTES_MAX: usize = 128;
/// How long a deduplication id is remembered, ms.
pub const DEDUP_WINDOW_MS: u64 = 24 * 3600 * 1000;
/// Deduplication ids in memory at which they are written out to the store.
pub const DEDUP_ENTRIES_MAX: usize = 1_000_000;
/// Most deduplication ids that came since the last flush began; beyond it the oldest is forgotten.
/// Reached only while nothing can be written out.
pub const DEDUP_ENTRIES_HARD_MAX: usize = 4 * DEDUP_ENTRIES_MAX;

/// Shortest and longest period of a recurring schedule, ms. Each run is journaled and published: what
/// comes more often than once a second is a load and not a schedule.
pub const PERIOD_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=crate::base::time::DELAY_MAX_MS;
/// Longest cron expression, and longest name of a time zone, bytes.
pub const SCHEDULE_TEXT_BYTES_MAX: usize = 255;
/// Most messages that follow the first of a cron run.
pub const REPEAT_MAX: u32 = 1_000;
/// Most bytes of content that one run publishes.
pub const RUN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages that recurring schedules publish in one step; one run always passes.
pub const RUNS_PER_STEP_MAX: u32 = 8_192;
/// A schedule whose next run cannot be planned, because its time zone is gone, is looked at again after
/// this time, ms.
pub const REPLAN_MS: u64 = 3_600_000;

/// Longest frame of the binary protocol, bytes, counted from the checksum to the end.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most items in one batch request.
pub const BATCH_ITEMS_MAX: usize = 10_000;
/// Most parts of a transaction. Its messages are at most as many as those of a batch, so are the ids it
/// acknowledges, and all it publishes would fit one frame.
pub const TRANSACTION_PARTS_MAX: usize = 1_000;
/// Most answered-for-later requests per connection; beyond it the server stops reading.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 4096;
/// Most bytes of unanswered requests per connection; beyond it the server stops reading.
pub const REQUEST_BYTES_IN_FLIGHT_MAX: usize = 16 * 1024 * 1024;
/// Default for the most connections at once.
pub const CONNECTIONS_MAX: usize = 16_384;
/// How long a new connection may take to say hello, ms.
pub const HELLO_TIMEOUT_MS: u64 = 10_000;
/// Longest client name in hello, bytes.
pub const CLIENT_NAME_BYTES_MAX: usize = 128;
/// Longest a peer may leave answers unread before its connection is closed, ms.
pub const WRITE_STALL_MS: u64 = 60_000;
/// Longest first frame of a connection (hello), bytes: a stranger gets no more buffer.
pub const HELLO_BYTES_MAX: usize = 8 * 1024;
/// Longest authentication token in hello, bytes.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Longest silence of a client before its connection is closed, ms.
pub const IDLE_TIMEOUT_MS: u64 = 120_000;
/// How long an ending connection waits for what is still unanswered, ms.
pub const DRAIN_MS: u64 = 10_000;
/// Longest text of an error as sent to clients, bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 512;
/// Size at which a frame of deliveries is full, bytes; one message always passes.
pub const DELIVER_FRAME_BYTES: usize = 64 * 1024;

/// Most header lines of a STOMP frame, repeated ones included.
pub const STOMP_HEADERS_MAX: usize = 100;
/// Longest header line of a STOMP frame, as sent, bytes: name and value, each byte perhaps escaped.
pub const STOMP_HEADER_LINE_BYTES_MAX: usize = 4 * HEADER_BYTES_MAX + 8;
/// Longest header lines of a STOMP frame together, as sent, bytes.
pub const STOMP_HEADER_BYTES_MAX: usize = 2 * HEADERS_TOTAL_BYTES_MAX + 16 * 1024;
/// How often the server can be heard and wants to hear STOMP clients, ms.
pub const STOMP_HEART_BEAT_MS: u64 = 10_000;
/// Most transactions that a STOMP session has open. Each holds a batch and a frame of the binary protocol at most.
pub const STOMP_TRANSACTIONS_MAX: usize = 16;
/// Unacknowledged messages of a STOMP subscription that names no number.
pub const STOMP_CREDIT_DEFAULT: u32 = 1_000;
/// Longest head of an HTTP request, bytes.
pub const HTTP_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Most header lines of an HTTP request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// How long the head of an HTTP request may take to come, ms; also the longest pause between two.
pub const HTTP_HEADER_TIMEOUT_MS: u64 = 30_000;
/// Longest body of an HTTP request, bytes: the longest message, with room for JSON around it.
pub const HTTP_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bodies of HTTP requests in memory at once, bytes; beyond it requests are told to come again.
pub const HTTP_BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long the body of an HTTP request may take to come, ms.
pub const HTTP_BODY_TIMEOUT_MS: u64 = 30_000;
/// A peer of a WebSocket that is silent for so long is pinged, ms.
pub const WEBSOCKET_PING_MS: u64 = 30_000;
/// Most SockJS sessions that are carried by requests.
pub const SOCKJS_SESSIONS_MAX: usize = 4_096;
/// Longest name of a SockJS session, bytes.
pub const SOCKJS_SESSION_ID_BYTES_MAX: usize = 64;
/// What a SockJS session that is carried by requests keeps, bytes each way; one request or one frame
/// always passes.
pub const SOCKJS_BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Size at which an answer of `xhr_streaming` ends, bytes: browsers keep all of it.
pub const SOCKJS_STREAM_BYTES: usize = 128 * 1024;
/// Time between the heart-beats of SockJS, ms: proxies end what is silent for longer.
pub const SOCKJS_HEARTBEAT_MS: u64 = 25_000;
/// A SockJS session without a request to receive ends after this, ms.
pub const SOCKJS_DISCONNECT_MS: u64 = 5_000;

/// Most subscriptions of a session.
pub const SUBSCRIPTIONS_PER_SESSION_MAX: usize = 256;
/// Most durable subscriptions in all.
pub const DURABLE_SUBSCRIPTIONS_MAX: usize = 10_000;
/// Longest name of a durable subscription, bytes.
pub const SUBSCRIPTION_NAME_BYTES_MAX: usize = 128;
/// Most temporary queues of a session.
pub const TEMPORARY_PER_SESSION_MAX: usize = 64;
/// Most consumers that share one durable subscription.
pub const SHARED_CONSUMERS_MAX: usize = 256;
/// Most subscriptions with a pattern in all: each is looked at when a topic comes to be.
pub const PATTERNS_MAX: usize = 1_024;
/// Most topics of one subscription with a pattern.
pub const PATTERN_TOPICS_MAX: usize = 1_024;
/// Most topics of all of them together: what each has takes memory.
pub const PATTERN_TOPICS_ALL_MAX: usize = 1 << 16;
/// Highest credit: unacknowledged messages of one subscription.
pub const CREDIT_MAX: u32 = 65_535;
/// Most bytes in flight to one subscription; one message always passes.
pub const SUBSCRIPTION_BYTES_IN_FLIGHT_MAX: usize = 8 * 1024 * 1024;
/// Bytes of deliveries that wait to be written to a connection at which it is handed no more.
pub const OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most destinations.
pub const DESTINATIONS_MAX: usize = 100_000;
/// What small state may take in a checkpoint, bytes: destinations, durable subscriptions, outcomes.
pub const SMALL_STATE_BYTES: u64 = 8 * 1024 * 1024;
/// The part of it that may come by use, bytes: further priorities of a queue, gaps of a cursor, finer
/// chunks of a topic. Beyond it there are no more of the first two, and fewer of the third.
pub const SMALL_STATE_GROWTH_MAX: u64 = 2 * 1024 * 1024;
/// The part of it that destinations and durable subscriptions take from their beginning on, bytes: what
/// the outcomes, of 18 bytes each, the counters, the header and the growth leave. Beyond it no new ones are taken.
pub const SMALL_STATE_BASE_MAX: u64 =
    SMALL_STATE_BYTES - OUTCOMES_REMEMBERED as u64 * 18 - 128 - SMALL_STATE_GROWTH_MAX;
/// Most runs of acknowledged offsets behind a gap that a topic subscription may have.
pub const CURSOR_RUNS_MAX: usize = CREDIT_MAX as usize;
/// Most entries of one page of `list` and `fetch`.
pub const PAGE_ITEMS_MAX: usize = 1_000;
/// Most body bytes of one page of `fetch`.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most messages one `list` request looks at before it hands back a continuation token.
pub const LIST_SCAN_MAX: usize = 100_000;

/// Ack timeout of a plain destination, ms.
pub const ACK_TIMEOUT_MS: u64 = 30 * 60 * 1000;
/// Shortest and longest ack timeout a subscriber may ask for, ms.
pub const ACK_TIMEOUT_RANGE_MS: std::ops::RangeInclusive<u64> = 100..=12 * 3600 * 1000;
/// Failed deliveries (reject, timeout) after which a message is dead.
pub const FAILED_DELIVERIES_MAX: u16 = 16;
/// Messages a topic keeps; beyond it the oldest go.
pub const TOPIC_MESSAGES_MAX: u64 = 1_000_000;
/// Bytes of content a topic keeps; beyond it the oldest go.
pub const TOPIC_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long a topic keeps a message, ms.
pub const TOPIC_AGE_MAX_MS: u64 = 30 * 24 * 3600 * 1000;
/// Outcomes of finished messages remembered for exact answers (a ring by sequence).
pub const OUTCOMES_REMEMBERED: usize = 1 << 16;

/// Messages fired in one step, so that a command never waits behind millions of overdue ones.
pub const FIRE_PER_STEP_MAX: usize = 8_192;
/// Messages handed to subscribers in one step.
pub const DELIVER_PER_STEP_MAX: usize = 8_192;
/// Messages one topic drops in one step: more than a step can bring, so none grows beyond its bound.
pub const TRIM_PER_STEP_MAX: usize = 1 << 17;
/// Ready messages that grew too old and are dropped in one step, before anybody met them.
pub const EXPIRE_PER_STEP_MAX: usize = 8_192;
/// Most messages in flight of a queue that is purged: the journal has to name each.
pub const PURGE_IN_FLIGHT_MAX: usize = 1 << 19;
/// Bytes of events in one step after which no further command is taken.
pub const STEP_BYTES_SOFT_MAX: usize = 2 * 1024 * 1024;
/// Requests taken in one step; large ones count as many.
pub const STEP_REQUESTS_MAX: usize = 8_192;

/// Scheduled messages are read back from the store this long before they are due, ms.
pub const THAW_AHEAD_MS: u64 = 2_000;
/// Messages read back and not fired yet, and so many in one step.
pub const THAW_AHEAD_MAX: u64 = 32_768;
/// Bytes of memory they may take.
pub const THAW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages of a flush that is done whose memory is freed in one step.
pub const CLEAR_PER_STEP: usize = 4_096;
/// Messages of a queue's lane read back at once.
pub const THAW_LANE_MAX: usize = 1_024;
/// Messages of a topic read back at once for one subscription.
pub const THAW_TOPIC_MAX: usize = 256;

/// When messages take more memory than they should, this part of a window of a lane or topic is read
/// back at once.
pub const THAW_SHORT_PART: usize = 32;

/// Default for the memory that messages should take, bytes.
pub const MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// New messages are refused when messages take so many times the memory they should.
pub const MEMORY_TIMES_MAX: u64 = 4;
/// Default for the journal after which what is alive is written out, bytes.
pub const JOURNAL_TAIL_BYTES: u64 = 192 * 1024 * 1024;
/// Default for the free space on the disk below which new messages are refused, bytes: room for
/// one more flush of everything in memory, and a checkpoint.
pub const DISK_RESERVE_BYTES: u64 = 288 * 1024 * 1024;

/// Without a batch for so long the server is idle, ms.
pub const IDLE_AFTER_MS: u64 = 60_000;
/// Messages in memory that an idle server writes out, bytes; fewer stay where they are.
pub const IDLE_FLUSH_BYTES: u64 = 8 * 1024 * 1024;
/// Journal that an idle server writes out and lets go of, bytes.
pub const IDLE_JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// Size at which rows of one kind, more than half of them dead, are a reason to flush, bytes.
pub const STALE_STORE_BYTES: u64 = 64 * 1024 * 1024;
/// A flush that nothing but these asks for begins so long after the one before, or later, ms.
pub const IDLE_FLUSH_EVERY_MS: u64 = 5 * 60_000;

/// Longest path of a directory for a backup, bytes.
pub const PATH_BYTES_MAX: usize = 4096;

/// Size of a journal segment file, bytes.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Alignment that writes past the page cache need in address, offset and length, bytes. Devices ask
/// for 512 or 4096.
pub const DIRECT_ALIGN: usize = 4096;
/// Every journal frame begins on this boundary, so no two syncs share a block.
pub const FRAME_ALIGN: usize = 4096;
/// Longest payload of one journal frame, bytes: a full step plus one largest request.
pub const JOURNAL_PAYLOAD_MAX: usize = 32 * 1024 * 1024;

/// Longest key of a row in the store, bytes; its length is written in one.
pub const STORE_KEY_BYTES_MAX: usize = 255;
/// Longest value of a row in the store, bytes: the longest content and what is kept with it.
pub const STORE_VALUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Default size at which a run of the store begins its next file, bytes.
pub const STORE_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Default number of runs of a level of the store that become one of the next.
pub const STORE_FANOUT: usize = 16;
/// Default size of a block in the store before compression, bytes.
pub const STORE_BLOCK_BYTES: usize = 8 * 1024;
/// Memory of all filters of a shard's store, bytes: enough for 13 to 25 million cancelled messages
/// that no merge has dropped yet. Files that have none are looked into.
pub const STORE_FILTER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Sizes a block in the store may be given, bytes.
pub const STORE_BLOCK_RANGE_BYTES: std::ops::RangeInclusive<usize> = 512..=1024 * 1024;

/// A forward step of the wall clock over this holds "at" firing until released, ms.
pub const CLOCK_STEP_HOLD_MS: u64 = 10 * 60 * 1000;
/// A gap at start over this counts as a clock step and not as a long stop, ms.
pub const CLOCK_GAP_AT_START_MAX_MS: u64 = crate::base::time::DELAY_MAX_MS;
/// A held wall clock is believed after this long, ms.
pub const CLOCK_HOLD_TIMEOUT_MS: u64 = 10 * 60 * 1000;

const _: () = {
    assert!(FRAME_BYTES_MAX > CONTENT_BYTES_MAX + DESTINATION_BYTES_MAX + 1024);
    assert!(JOURNAL_PAYLOAD_MAX > STEP_BYTES_SOFT_MAX + 2 * FRAME_BYTES_MAX);
    assert!(SEGMENT_BYTES as usize > JOURNAL_PAYLOAD_MAX + 4 * FRAME_ALIGN);
    // The shortest event of an accepted message has 29 bytes and its content.
    assert!(
        TRIM_PER_STEP_MAX
            > STEP_BYTES_SOFT_MAX / 29
                + BATCH_ITEMS_MAX
                + 2 * FIRE_PER_STEP_MAX
                + (RUNS_PER_STEP_MAX + REPEAT_MAX) as usize
    );
    assert!(REPEAT_MAX < RUNS_PER_STEP_MAX);
    // What a purge leaves alone is named in one event, 8 bytes each.
    assert!(PURGE_IN_FLIGHT_MAX * 8 + 64 < FRAME_BYTES_MAX);
    assert!(STORE_VALUE_BYTES_MAX > CONTENT_BYTES_MAX + 64 * 1024);
    assert!(BODY_BYTES_MAX < SUBSCRIPTION_BYTES_IN_FLIGHT_MAX);
    assert!(CONTENT_BYTES_MAX * 3 < HTTP_BODY_BYTES_MAX);
    assert!(HTTP_BODIES_BYTES_MAX < u32::MAX as usize && HTTP_HEADER_BYTES_MAX >= 8192);
    assert!(HTTP_HEADER_BYTES_MAX > TOKEN_BYTES_MAX * 2);
    assert!(PAGE_BYTES_MAX + CONTENT_BYTES_MAX < FRAME_BYTES_MAX);
    assert!(HELLO_BYTES_MAX > TOKEN_BYTES_MAX + 2 * CLIENT_NAME_BYTES_MAX + 64);
    // The largest answers fit a frame: a batch of refusals, a batch of statuses.
    assert!(BATCH_ITEMS_MAX * (ERROR_TEXT_BYTES_MAX + 8) + 64 < FRAME_BYTES_MAX);
    assert!(BATCH_ITEMS_MAX * (DESTINATION_BYTES_MAX + 40) + 64 < FRAME_BYTES_MAX);
};
