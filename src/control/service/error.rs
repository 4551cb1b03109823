//! Why the service refused a call.

use crate::{control::streams::StreamsError, reject::Reject};

/// Kinds of objects that the service manages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A user.
    User,
    /// A station.
    Station,
    /// A schema.
    Schema,
    /// A version of a schema.
    SchemaVersion,
    /// An API key.
    Key,
    /// A dead letter.
    DeadLetter,
    /// A consumer group.
    ConsumerGroup,
}

impl What {
    /// Returns the word for it in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Station => "station",
            Self::Schema => "schema",
            Self::SchemaVersion => "version of the schema",
            Self::Key => "key",
            Self::DeadLetter => "dead letter",
            Self::ConsumerGroup => "consumer group",
        }
    }
}

/// Why nothing was changed, or nothing is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminError {
    /// The request is wrong; the text says what.
    Invalid(String),
    /// There is one of this name already.
    Exists(What),
    /// There is none of this name.
    Unknown(What),
    /// The present state does not allow it; the text says why.
    Conflict(String),
    /// It is not what the caller has seen: its tag is another than expected.
    Changed,
    /// The user is root, which comes from the configuration.
    Root,
    /// Others changed the same document at the same time, again and again.
    Contended,
    /// Too many passwords are being hashed.
    Overloaded,
    /// The registry could not be reached or did not answer; the change may have been made.
    Backend(Reject),
}

/// Maps an error about the streams of a station.
impl From<StreamsError> for AdminError {
    fn from(error: StreamsError) -> Self {
        match error {
            StreamsError::Exists => Self::Exists(What::Station),
            StreamsError::Unknown => Self::Unknown(What::Station),
            StreamsError::Invalid(text) | StreamsError::Missing(text) => Self::Invalid(text),
            StreamsError::Failed(reject) => Self::Backend(reject),
        }
    }
}
