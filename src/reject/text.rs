//! The sentence about each way to fail: what was wrong, and what to do. Clients read it in answers, operators in the log.

use super::{Reject, SizeLimit};
use std::fmt;

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Malformed(rule) => return write!(f, "malformed request: {rule}"),
            Self::CorruptEncoding(what) => {
                return write!(f, "the body does not decode as its Content-Encoding says: {what}");
            }
            Self::Json { offset, reason } => return write!(f, "invalid JSON at byte {offset}: {reason}"),
            Self::Line(number, why) => return write!(f, "line {number}: {why}"),
            Self::Body(text) | Self::Field(text) | Self::MessageId(text) => text,
            Self::Name(what, fault) => return f.write_str(&fault.text(what)),
            Self::BrokerForbidden(text) => return write!(f, "the broker does not allow the gateway this: {text}"),
            Self::StationUnknown(station) => {
                return write!(f, "station {station} does not exist, and it is not created on first use");
            }
            Self::PartitionUnknown(partition) => return write!(f, "the station has no partition {partition}"),
            Self::TooLarge(what, limit) => return what.write_exceeded(f, *limit),
            Self::StreamFull(text) => return write!(f, "the station is full: {text}"),
            Self::BrokerRefused(code, text) => {
                return write!(f, "the broker refused the record: {text} (code {code})");
            }
            Self::StoreReadOnly(text) => {
                return write!(f, "{text}: nothing was stored; send the request again later");
            }
            Self::BrokerFailed(text) => return write!(f, "the broker cannot be used: {text}"),
            Self::TooManyOpen(of, most) => return write_too_many_open(f, of, *most),
            Self::TooManyStreams(most) => return write_too_many_streams(f, *most),
            Self::Overloaded(what) => return write!(f, "too busy: {what} is full; send the request again later"),
            Self::Internal(what) => return write!(f, "internal error: {what}"),
            Self::Unauthorized => "Unauthorized",
            Self::MethodNotAllowed(_) => "Method Not Allowed",
            Self::RequestTimeout => "the request did not arrive in time",
            Self::HeadTooLarge => "request line and header fields are larger than the limit",
            Self::MediaType => {
                "unsupported content type: send JSON, text, application/x-protobuf, application/octet-stream or avro/bytes"
            }
            Self::ContentEncoding => "unsupported content encoding: send gzip, deflate or none",
            Self::Expectation => "the only expectation that is met is 100-continue",
            Self::TransferCoding => "the only transfer coding that is read is chunked",
            Self::Version => "HTTP/1.1 and HTTP/1.0 are served",
            Self::WindowFull => "too many records are waiting for their acknowledgement; send the request again later",
            Self::TooManyLogins(_) => {
                "too many logins with a wrong password for this name, or from this network; send the right one after a while"
            }
            Self::BrokerBusy => "the broker asks to slow down; send the request again later",
            Self::BrokerAway => "the broker is away: not stored; send the request again",
            Self::OutcomeUnknown => {
                "no acknowledgement came: the record may be stored or not; send the request again (with an Idempotency-Key nothing is stored twice)"
            }
            Self::NoStream => "no stream answers for the station at the moment: not stored; send the request again",
            Self::ControlTimeout => "the station could not be looked up in time; send the request again",
            Self::Schema(text) => return write!(f, "Schema validation has failed: {text}"),
            Self::NotAtomic(why) => return write!(f, "all or nothing is not possible here: {why}"),
            Self::TooManyForWhole(most) => {
                return write!(f, "all or nothing is not possible here: at most {most} records at a time");
            }
            Self::NothingStored => {
                "nothing was stored: another record of the request failed, and all or nothing was asked for"
            }
            Self::ContractsUnknown => "the station's schema cannot be confirmed at the moment; send the request again",
            Self::Forbidden(why) | Self::StationBlocked(why) | Self::Conflict(why) | Self::StoreFailed(why) => why,
            Self::DeadLetters(why) => {
                return write!(f, "records failed and could not be kept as dead letters: {why}");
            }
            Self::UsersUnknown => "the users are not known yet; send the request again",
            Self::Draining => "the gateway is shutting down; send the request again",
        };
        f.write_str(text)
    }
}

fn write_too_many_open(f: &mut fmt::Formatter<'_>, of: &str, most: usize) -> fmt::Result {
    write!(
        f,
        "{most} deliveries of this {of} wait for their acknowledgement, and no more may: acknowledge them, or send the request again later"
    )
}

fn write_too_many_streams(f: &mut fmt::Formatter<'_>, most: usize) -> fmt::Result {
    write!(
        f,
        "{most} streams of this user or API key are open, and no more may: end one, or send the request again later"
    )
}

impl SizeLimit {
    fn write_exceeded(self, f: &mut fmt::Formatter<'_>, limit: u64) -> fmt::Result {
        match self {
            Self::Body => write!(f, "the body is larger than {limit} bytes"),
            Self::Inflated => write!(f, "the decompressed body is larger than {limit} bytes"),
            Self::Record => write!(f, "the record with its headers is larger than {limit} bytes"),
            Self::BatchRecords => write!(f, "the batch holds more than {limit} records"),
            Self::RecordHeaders => write!(f, "the header fields to store are larger than {limit} bytes"),
        }
    }
}
