//! Looking a station up again beside what goes on with it.
//!
//! A publish that finds nobody does not tell whether the stream has gone or only has no leader at the moment. So what
//! is known of the station stays known while the control plane is asked, whoever waits goes on trying, and only an
//! answer changes what is known. So it is where a station's streams do not allow reads by place yet.

use super::{Directory, Entry, Local, messages::Request};
use crate::{
    limits::REQUEST_TIMEOUT,
    reject::Reject,
    rt::{self, Changed, Waiters},
    station::{DirectGet, Name, Station},
};
use std::{cell::RefCell, rc::Rc, time::Instant};

/// What the control plane says of a station.
type Found = Result<Rc<Local<Station>>, Reject>;

/// What is asked for of a station that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Looking {
    /// What it is now; whether it may be created.
    Station(bool),
    /// That its streams allow reads by place.
    DirectGet,
}

/// A request for a station that is on its way.
#[derive(Debug, Default)]
pub struct Look {
    found: RefCell<Option<Found>>,
    waiters: Waiters,
}

impl Look {
    /// What was found, if the answer is there.
    #[must_use]
    pub fn found(&self) -> Option<Found> {
        self.found.borrow().clone()
    }

    /// Waits for the answer.
    pub fn changed(&self) -> Changed<'_> {
        self.waiters.changed()
    }
}

impl Directory {
    /// Asks for a station although it is known; once for all who want to know at the same time.
    pub fn look_again(self: &Rc<Self>, name: &Name, create: bool) -> Rc<Look> {
        self.look(name, Looking::Station(create))
    }

    /// Returns a station that can be read by place, as well as its streams allow. It is never created.
    pub async fn readable(self: &Rc<Self>, name: &Name, now: Instant) -> Result<Rc<Local<Station>>, Reject> {
        let known = self.station(name, false, now).await?;
        if known.direct_get != DirectGet::Possible {
            return Ok(known);
        }
        let look = self.look(name, Looking::DirectGet);
        let found = look.waiters.wait_for(REQUEST_TIMEOUT, || look.found()).await;
        // Reading goes on as it can, whatever became of that.
        Ok(found.ok().and_then(Result::ok).unwrap_or(known))
    }

    fn look(self: &Rc<Self>, name: &Name, looking: Looking) -> Rc<Look> {
        let key = (name.clone(), looking);
        if let Some(look) = self.looks.borrow().get(&key) {
            return Rc::clone(look);
        }
        let look = Rc::new(Look::default());
        self.looks.borrow_mut().insert(key.clone(), Rc::clone(&look));
        let (directory, own) = (Rc::clone(self), Rc::clone(&look));
        rt::spawn(async move {
            let forgotten = directory.forgotten.get();
            let name = key.0.clone();
            let answer = directory.ask(match looking {
                Looking::Station(create) => Request::Station { name, create },
                Looking::DirectGet => Request::AllowDirectGet { name },
            });
            let answer = answer.await;
            let found = answer.and_then(super::station_of).map(|value| Rc::new(Local { value }));
            directory.looks.borrow_mut().remove(&key);
            if directory.forgotten.get() == forgotten {
                directory.learn(&key.0, &found);
            }
            *own.found.borrow_mut() = Some(found);
            own.waiters.wake_all();
        });
        look
    }

    /// Keeps what was found, unless it only says that it is not known at the moment.
    fn learn(&self, name: &Name, found: &Found) {
        if matches!(self.stations.borrow().get(name), Some(Entry::Asked(_))) {
            return;
        }
        match found {
            Ok(known) => {
                self.stations.borrow_mut().insert(name.clone(), Entry::Known(Rc::clone(known)));
            }
            Err(Reject::StationUnknown(_)) => {
                self.stations.borrow_mut().remove(name);
            }
            Err(_) => return,
        }
        // A stream that was made anew has none of the groups that are known.
        self.consumers.borrow_mut().retain(|(station, _), entry| station != name || matches!(entry, Entry::Asked(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{messages::Response, tests::station},
        *,
    };
    use crate::rt::clock;

    #[test]
    fn a_station_is_asked_once_to_allow_reads_and_read_as_it_is_if_it_cannot() {
        let (asks, questions) = flume::bounded(4);
        let directory = Rc::new(Directory::new(0, asks));
        let name = Name::parse("s").expect("a name");
        let found = |direct_get| {
            let Response::Station(Ok(known)) = station(&name, 2) else { panic!("a station") };
            Response::Station(Ok(Station { direct_get, ..Station::clone(&known) }.into()))
        };
        rt::run(rt::Flavor::Epoll, || async {
            let read = async |answer: Option<Response>| {
                let now = clock::now();
                let readers =
                    futures_util::future::join(directory.readable(&name, now), directory.readable(&name, now));
                let answerer = async {
                    if let Some(answer) = answer {
                        let envelope = questions.recv_async().await.expect("a request");
                        assert!(matches!(envelope.request, Request::AllowDirectGet { .. }));
                        directory.answered(envelope.ticket, answer);
                    }
                };
                let ((one, other), ()) = futures_util::future::join(readers, answerer).await;
                assert!(questions.is_empty(), "asked once for both");
                [one, other].map(|found| found.expect("a station").direct_get)
            };
            let Response::Station(Ok(known)) = found(DirectGet::Possible) else { panic!("a station") };
            directory.stations.borrow_mut().insert(name.clone(), Entry::Known(Rc::new(Local::new(known))));
            for (answer, expect) in [
                (Some(Response::Station(Err(Reject::BrokerAway))), DirectGet::Possible),
                (Some(found(DirectGet::Possible)), DirectGet::Possible),
                (Some(found(DirectGet::Denied)), DirectGet::Denied),
                (None, DirectGet::Denied),
            ] {
                assert_eq!(read(answer).await, [expect; 2]);
            }
        })
        .expect("a runtime");
    }

    #[test]
    fn c6_a_station_stays_known_while_it_is_looked_up_and_until_it_is_known_to_be_gone() {
        let (asks, questions) = flume::bounded(4);
        let directory = Rc::new(Directory::new(0, asks));
        let name = Name::parse("s").expect("a name");
        let known = |directory: &Directory| directory.stations_known() == 1;
        rt::run(rt::Flavor::Epoll, || async {
            let answer = |answer| {
                let envelope = questions.try_recv().expect("a request");
                directory.answered(envelope.ticket, answer);
            };
            let asker = directory.station(&name, true, clock::now());
            let answerer = async {
                rt::yield_now().await;
                answer(station(&name, 2));
            };
            futures_util::future::join(asker, answerer).await.0.expect("a station");
            for (of, expect) in [
                (Response::Station(Err(Reject::BrokerAway)), true),
                (station(&name, 3), true),
                (Response::Station(Err(Reject::StationUnknown("s".into()))), false),
            ] {
                let (look, other) = (directory.look_again(&name, true), directory.look_again(&name, true));
                assert!(Rc::ptr_eq(&look, &other) && look.found().is_none() && known(&directory));
                let changed = look.changed();
                rt::yield_now().await;
                answer(of);
                changed.await;
                assert!(look.found().is_some());
                assert_eq!(known(&directory), expect);
            }
        })
        .expect("a runtime");
        assert_eq!(directory.requests_sent(), 4, "one for all who want to know");
    }
}
