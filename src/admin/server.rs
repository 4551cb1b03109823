//! Listening and serving, with bounds: on connections, on the time of a head, of a request and of a
//! connection.

use super::{
    places::{Place, Placed, Places, is_sweep},
    problem::Problem,
    router,
};
use crate::{
    control::AdminService,
    limits::{
        ADMIN_CLOSE_TIMEOUT, ADMIN_CONNECTION_TIMEOUT, ADMIN_HEAD_BYTES_MAX, ADMIN_HEAD_FIELDS_MAX, ADMIN_HEAD_TIMEOUT,
        ADMIN_REQUEST_TIMEOUT, ADMIN_SWEEP_TIMEOUT,
    },
};
use axum::{
    Router,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    io,
    net::{self, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// Between two attempts to get a place while all are in use. Meanwhile new connections wait in the kernel's queue.
const PLACE_PAUSE: Duration = Duration::from_millis(10);
/// Pause after an accept that failed because something was exhausted (file descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Binds the address. It is called before anything else starts, so that a second gateway fails at once.
pub fn bind(address: SocketAddr) -> io::Result<net::TcpListener> {
    let listener = net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves the listener that [`bind`] returned, for ever. Runs on the control thread.
pub async fn serve(listener: net::TcpListener, service: AdminService) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "admin: the listener cannot be used");
            return;
        }
    };
    let router = router(service);
    let mut places = Places::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = loop {
                    match places.take() {
                        Some(place) => break place,
                        None => sleep(PLACE_PAUSE).await,
                    }
                };
                tokio::spawn(connection(stream, router.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "admin: cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, place: Arc<Place>) {
    let service = Placed { inner: TowerToHyperService::new(router), place: Arc::clone(&place) };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEAD_TIMEOUT)
        .max_headers(ADMIN_HEAD_FIELDS_MAX)
        .max_buf_size(ADMIN_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = sleep(ADMIN_CONNECTION_TIMEOUT) => None,
        () = place.must_go() => return,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        timeout(ADMIN_CLOSE_TIMEOUT, connection).await.unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin: a connection ended early");
    }
}

/// Ends a request that takes too long, because its body does not come or the registry does not answer.
pub(super) async fn deadline(request: Request, next: Next) -> Response {
    let within = if is_sweep(&request) { ADMIN_SWEEP_TIMEOUT } else { ADMIN_REQUEST_TIMEOUT };
    timeout(within, next.run(request)).await.unwrap_or_else(|_| Problem::too_long().into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_refused_at_once() {
        let first = bind("127.0.0.1:0".parse().expect("an address")).expect("free");
        let error = bind(first.local_addr().expect("an address")).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
