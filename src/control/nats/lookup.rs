//! Repeats calls to the broker that change nothing, or nothing more the second time, while nobody answers.
//!
//! A call about a stream whose leader has gone is lost, or answered by a server that says that there is no leader. The
//! next leader is there after a tenth of a second (a hand-over) or after some seconds (an election), and knows nothing
//! of earlier calls. So the same call is made again every [`LOOK_INTERVAL`] for as long as the hold, and the first
//! answer that says something counts. Earlier calls stay open: a broker that is slow answers the first one.
//!
//! That a stream is *not there* is never concluded from silence: only its leader, or the cluster's, says so.

use crate::control::nats::client::{CallError, NatsClient, codes};
use crate::limits::LOOK_INTERVAL;
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{MissedTickBehavior, interval, sleep};

impl NatsClient {
    /// Makes one call of the JetStream API that may be made more than once; answered within the hold, or not at all.
    pub(in crate::control) async fn look<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let mut open = FuturesUnordered::new();
        let mut last = CallError::TimedOut;
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let hold = sleep(self.hold());
        tokio::pin!(hold);
        loop {
            tokio::select! {
                biased;
                Some(answer) = open.next() => match answer {
                    Err::<T, CallError>(error) if error.passes() => last = error,
                    answer => return answer,
                },
                () = &mut hold => return Err(last),
                _ = ticks.tick() => open.push(self.call::<T>(verb, body)),
            }
        }
    }
}

impl CallError {
    /// Returns whether the same call may be answered in a moment.
    fn passes(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Refused(code, _) => codes::passes(*code),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::support::{block_on, scripted_broker};
    use serde_json::{Value, json};

    fn ask(answers: Vec<Option<Value>>) -> Result<Value, CallError> {
        block_on(async { scripted_broker(answers).await.look("STREAM.INFO.s", &json!({})).await })
    }

    fn refused(code: u32) -> Value {
        json!({"error": {"code": 503, "err_code": code, "description": "x"}})
    }

    #[test]
    fn c6_a_question_that_nobody_leads_is_asked_again_until_somebody_does() {
        let found = json!({"config": {"name": "s"}});
        for answers in [
            vec![Some(found.clone())],
            // Lost, as calls to a stream without a leader are.
            vec![None, None, Some(found.clone())],
            vec![Some(refused(10_008)), None, Some(refused(10_009)), Some(refused(10_118)), Some(found.clone())],
        ] {
            assert_eq!(ask(answers.clone()), Ok(found.clone()), "{answers:?}");
        }
    }

    #[test]
    fn c6_only_a_leaders_word_says_that_a_stream_is_not_there() {
        let gone = ask(vec![None, Some(refused(10_059)), Some(json!({}))]);
        assert_eq!(gone, Err(CallError::Refused(10_059, "x".into())));
        assert!(gone.is_err_and(|error| error.is_absent()));
        for silence in [vec![], vec![Some(refused(10_008)); 100]] {
            let error = ask(silence).expect_err("nobody leads");
            assert!(!error.is_absent() && error.passes(), "{error:?}");
        }
    }
}
