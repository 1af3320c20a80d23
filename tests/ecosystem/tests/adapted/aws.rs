//! The runtime of the AWS SDK's clients: retries and time limits around a connector of the
//! program's.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::HttpStatusCodeClassifier;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use futures::io::BufReader;
use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, StreamExt};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{Runtime, sleep, spawn_background};
use heirloom_adaptors::Heirloom;
use heirloom_ecosystem::{Library, SOON, seen, tests};

/// The question goes as a line, and a status comes back: what is tested is around it.
#[derive(Debug)]
struct Connector(SocketAddr);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (server, asks) = (self.0, seen());
        HttpConnectorFuture::new(async move {
            assert_eq!(seen(), asks);
            let ask = async {
                let mut stream = TcpStream::connect(server).await?;
                stream.write_all(request.body().bytes().unwrap()).await?;
                let mut status = String::new();
                stream.read_to_string(&mut status).await?;
                status.parse().map_err(io::Error::other)
            };
            let status: u16 = ask.await.map_err(|error| ConnectorError::io(error.into()))?;
            Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::empty()))
        })
    }
}

/// Refuses each question once. To `silence` it does not answer.
async fn serve(listener: TcpListener) {
    let asked = Arc::new(Mutex::new(HashSet::new()));
    while let Ok((stream, _)) = listener.accept().await {
        let asked = Arc::clone(&asked);
        spawn_background(async move {
            let (questions, mut answer) = stream.split();
            let mut lines = BufReader::new(questions).lines();
            while let Some(Ok(question)) = lines.next().await {
                if question == "silence" {
                    continue;
                }
                let refused = asked.lock().unwrap().insert(question);
                let _ = answer.write_all(if refused { b"503" } else { b"200" }).await;
                return;
            }
        });
    }
}

type Client = Operation<String, u16, Infallible>;

async fn client(limits: TimeoutConfig) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    spawn_background(serve(listener));
    let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(2));
    Operation::builder()
        .service_name("test")
        .operation_name("test")
        .endpoint_url("http://localhost")
        .http_client(http_client_fn(move |_, _| SharedHttpConnector::new(Connector(server))))
        .sleep_impl(Heirloom::current()) // glue
        .time_source(Heirloom::current()) // glue
        .no_auth()
        .standard_retry(&retry)
        .retry_classifier(HttpStatusCodeClassifier::default())
        .timeout_config(limits)
        .serializer(|question: String| Ok(HttpRequest::new(SdkBody::from(question + "\n"))))
        .deserializer(|response| match response.status().as_u16() {
            503 => Err(OrchestratorError::connector(ConnectorError::io("refused".into()))),
            status => Ok(status),
        })
        .build()
}

pub struct Aws;

impl Library for Aws {
    const PACKAGE: &'static str = "aws-smithy-runtime";
    const WAY: &'static str = "`AsyncSleep`, `TimeSource`";
    const GUEST: bool = false;
    const ADAPTOR: &'static str = "aws-smithy-async";
    const GLUE: usize = 2;
    const SPAWNS: &'static str = "";
    type Client = Client;

    async fn connect() -> Client {
        client(TimeoutConfig::disabled()).await
    }

    async fn call(client: Client) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let question = format!("question {}", NUMBER.fetch_add(1, Relaxed));
        assert_eq!(client.invoke(question).await.unwrap(), 200);
    }

    async fn endless(client: Client) -> String {
        format!("{:?}", client.invoke("silence".to_owned()).await)
    }
}

tests!(Aws, without a guest);

#[heirloom::test(timeout = "60s")]
async fn a_limit_that_the_library_was_given_is_met() {
    let client = client(TimeoutConfig::builder().operation_timeout(SOON).build()).await;
    let error = client.invoke("silence".to_owned()).await.unwrap_err();
    assert!(format!("{error:?}").contains("TimeoutError"), "{error:?}");
}

#[test]
fn the_time_of_day_goes_on_with_the_virtual_clock() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let runtime = Runtime::builder().virtual_time().build().unwrap();
    // Of that runtime, also where it is asked outside.
    let clock = Heirloom::from(runtime.handle().clone());
    let before = clock.now();
    runtime.block_on(sleep(HOUR));
    let passed = clock.now().duration_since(before).unwrap();
    assert!(passed >= HOUR - Duration::from_secs(1) && passed < HOUR * 2, "{passed:?}");
}
