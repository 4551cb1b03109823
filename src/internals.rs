//! What the benches, the fuzz targets and the laboratory in `perf/` use of the program. It is no API: it changes without
//! notice.
//!
//! Items are exported one by one, not as modules, so that the modules of the crate can be private and the compiler finds
//! code that nothing uses.

pub mod fuzz {
    //! Entry points of the fuzz targets.
    pub use crate::{
        auth::fuzz_token,
        wire::{
            content_encoding::fuzz_decode,
            http1::fuzz::{fuzz_body, fuzz_head},
            json::{fuzz_lines, fuzz_split},
        },
    };
}

pub mod backend {
    //! The embedded store.
    pub use crate::{
        backend::{
            Publish,
            local::{Clock, StationDefaults, Store},
        },
        station::Attributes,
    };
}

pub mod auth {
    //! Credentials.
    pub use crate::auth::{
        ACCOUNT_DEFAULT, Authenticator, TokenKeys, Users, credential,
        keys::{KeyRecord, KeyUses, is_key, new_key},
    };
}

pub mod rt {
    //! The runtime of a shard.
    pub use crate::rt::{
        Driver, DriverChoice, Flavor, Listener, Reservation, pin_to_core, raise_file_limit, run, spawn,
    };
}

pub mod service {
    //! An HTTP service on the gateway's own connections.
    pub use crate::{
        budget::Budget,
        conn::Connections,
        dialect::{Admission, Admitted, BodyMode, Payload, Reply, Request, Service, memphis::stored},
        limits::Limits,
        metrics::{Route, ShardMetrics},
        reject::Reject,
        wire::http::Fields,
    };
}

pub mod schema {
    //! Validation of records.
    pub use crate::schema::{Encoding, Schema, SchemaSource, SchemaType, Scratch};
}

pub mod wire {
    //! Bytes and values.
    pub use crate::{limits::HEAD_FIELDS_MAX, station::Name, wire::Span};

    pub mod http1 {
        //! Requests and responses.
        pub use crate::wire::{
            http::Fields,
            http1::{Body, Framing, Head, HeadLimits, Progress, Response, date},
        };
    }

    pub mod json {
        //! The splitter.
        pub use crate::wire::json::{Engine, SplitLimits};
    }

    pub mod jetstream {
        //! Publishes and their acknowledgements.
        pub use crate::wire::jetstream::{
            AckOutcome, BatchKey, PubAck, Token, Window,
            acks::Acks,
            puback,
            window::{AckMode, DueWakers, WindowLimits, WindowRequest},
        };
    }

    pub mod nats {
        //! The client protocol.
        pub use crate::wire::nats::{
            Op, ParseLimits, Parsed,
            encode::{RecordId, Reply, Template, hpub_record, pub_record, record_bytes},
            next,
        };
    }
}
