//! Why the service did nothing.

use crate::{control::streams::StreamsError, reject::Reject};

/// Kinds of things that the service deals in.
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
    /// The word for it in messages.
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
    /// What was asked for is wrong; the text says what.
    Invalid(String),
    /// There is one of this name.
    Exists(What),
    /// There is none of this name.
    Unknown(What),
    /// It cannot be done to what is there now; the text says why.
    Conflict(String),
    /// It is not what the caller has seen: the expected tag is another.
    Changed,
    /// The user is root, which comes from the configuration.
    Root,
    /// Somebody else changed the same at the same time, again and again.
    Contended,
    /// Too many passwords are being hashed.
    Overloaded,
    /// The registry could not be reached or did not answer; the change may have been made.
    Backend(Reject),
}

/// An error about the streams of a station.
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
