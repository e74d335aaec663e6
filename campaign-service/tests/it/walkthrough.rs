//! The launch guide with the tools that users have: grpcurl, and a Python client generated from the protos.

use crate::support::access::Folder;
use crate::support::{Service, TestDb};
use campaign_testkit::free_port;
use std::process::{Command, Output};

/// Returns the path of a tool that `make test` installs.
fn tool(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run `make test`, or eval \"$(python3 deploy/local/tools.py)\""
        )
    })
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Makes a grpcurl call. Returns its answer, or its error.
async fn grpcurl(address: &str, method: &str, data: &str) -> Result<String, String> {
    let mut command = Command::new(tool("CAMPAIGN_GRPCURL"));
    command.args(["-plaintext", "-d", data, address, method]);
    let output = run(command).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[tokio::test]
async fn a_generated_python_client_goes_through_the_guide() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/python_client.py");
    let mut command = Command::new("python3");
    command
        .args([script, service.url.strip_prefix("http://").unwrap()])
        .env("PYTHONPATH", tool("CAMPAIGN_PYTHONPATH"));
    let output = run(command).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.ends_with("ok\n"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The demo's test runs the whole guide by grpcurl. This test checks what that one does not show.
#[tokio::test]
async fn grpcurl_sees_services_health_and_error_details() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let address = service.url.strip_prefix("http://").unwrap();
    let mut list = Command::new(tool("CAMPAIGN_GRPCURL"));
    list.args(["-plaintext", address, "list"]);
    let listed = String::from_utf8(run(list).await.stdout).unwrap();
    for name in ["CampaignService", "ContactService", "InteractionService", "DispatchService"] {
        assert!(listed.contains(&format!("campaign.v1.{name}")), "{listed}");
    }
    let healthy = crate::support::eventually("the service is healthy", || async {
        let data = r#"{"service": "campaign.v1.CampaignService"}"#;
        grpcurl(address, "grpc.health.v1.Health/Check", data).await.ok()
    })
    .await;
    assert!(healthy.contains("SERVING"), "{healthy}");
    let error = grpcurl(address, "campaign.v1.CampaignService/CreateCampaign", "{}").await;
    let error = error.unwrap_err();
    assert!(error.contains("google.rpc.BadRequest") && error.contains("campaign"), "{error}");
    assert!(error.contains("must be set"), "the details are rendered: {error}");
    let unnamed = grpcurl(address, "campaign.v1.InteractionService/RouteInbound", "{}").await;
    assert!(unnamed.unwrap_err().contains("InvalidArgument"));
}

/// Returns the blocks of commands of a document that are marked with a language, in order.
pub(crate) fn blocks(document: &str, language: &str) -> Vec<String> {
    let path = format!("{}/../{document}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let begin = format!("```{language}\n");
    let rest = text.split(&begin).skip(1);
    rest.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Returns `PATH` with the folder of grpcurl first.
fn path_with_grpcurl() -> String {
    let grpcurl = std::path::PathBuf::from(tool("CAMPAIGN_GRPCURL"));
    let folder = grpcurl.parent().unwrap().display();
    format!("{folder}:{}", std::env::var("PATH").unwrap())
}

/// Runs the walk-through of the API guide against a service. Returns what it printed.
pub(crate) async fn walk_through(address: &str) -> String {
    let lines = blocks("proto/README.md", "sh").concat();
    let script = format!("set -e\n{lines}").replace("localhost:50051", address);
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("PATH", path_with_grpcurl());
    let output = run(command).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test]
async fn the_api_guide_works_as_it_stands_twice_in_a_row() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let address = service.url.strip_prefix("http://").unwrap();
    for suppressed in ["\"added\": \"1\"", "\"alreadyListed\": \"1\""] {
        let text = walk_through(address).await;
        // Only the bad row failed, and the guide ran to its end.
        for wanted in [
            "\"created\": \"3\"",
            "\"rejected\": \"1\"",
            "\"reason\": \"wrong list\"",
            suppressed,
            // The second page of contacts.
            "\"phoneNumber\": \"+14155550101\"",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert_eq!(text.matches("\"command\": ").count(), 6, "{text}");
    }
}

/// The guide's commands with openssl create keys, a certificate and a token, which give access to the service.
#[tokio::test]
async fn the_operations_guide_gets_in_with_keys_of_its_own() {
    let db = TestDb::new().await;
    let (folder, port) = (Folder::new(), free_port());
    let blocks = blocks("campaign-service/docs/operations.md", "bash");
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    let serve =
        format!("{} serve --listen 127.0.0.1:{port}", env!("CARGO_BIN_EXE_campaign-service"));
    let start = blocks[0].trim_end().replace("campaign-service serve", &serve);
    let call = blocks[1].replace("localhost:50051", &format!("localhost:{port}"));
    let script = format!(
        "set -e\ncommand -v openssl >/dev/null || {{ echo install openssl; exit 1; }}\n\
         {start} >serve.log 2>&1 &\ntrap 'kill $!' EXIT\n\
         until grep -q serving serve.log; do kill -0 $!; sleep 0.05; done\n{call}\n\
         TOKEN=${{TOKEN}}x\n{}",
        call.lines().last().unwrap()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("PATH", path_with_grpcurl()).env("DATABASE_URL", &db.url);
    command.current_dir(folder.path(""));
    let output = run(command).await;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    // The list has no campaigns yet, and a changed token is rejected.
    assert!(said[0].starts_with("{"), "{said:?}");
    assert!(said[1].contains("Unauthenticated") && !output.status.success(), "{said:?}");
}

#[tokio::test]
async fn reflection_is_served_in_both_versions() {
    use tonic::client::Grpc;
    use tonic::codegen::http::uri::PathAndQuery;
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let channel = tonic::transport::Channel::from_shared(service.url.clone()).unwrap();
    let channel = channel.connect().await.unwrap();
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        // An empty stream of requests is answered by an empty stream, if the service is there.
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let request = tonic::Request::new(tokio_stream::empty());
        let path: PathAndQuery = path.parse().unwrap();
        let mut responses = grpc.streaming(request, path, codec).await.unwrap().into_inner();
        assert!(responses.message().await.unwrap().is_none(), "{version}");
    }
}
