//! Pools over real browsers, requests for small models, and a look at the processes behind them.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use browsers::{BrowserSettings, Family, InputTensor, ModelFile, Pool, PoolSettings, WebError, WebRequest, WebRun};
use messages::{ContentHash, Platform, Precision, Priority};
use sha2::{Digest, Sha256};
use testkit::BrowserProcesses;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// How long what is waited for may take; reached only by a failing test.
const LIMIT: Duration = Duration::from_mins(1);

/// Time between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Browsers fill this machine: one pool at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What `mixer.onnx` makes of its input, by numpy in double precision.
pub(crate) const MIXER_OUTPUT: [f32; 16] = [
    0.549_323_7,
    0.144_819_9,
    0.169_247_3,
    -0.139_624_8,
    0.560_975,
    0.131_807_7,
    0.306_748_5,
    -0.430_734_3,
    0.786_797_5,
    0.453_858_3,
    -0.706_057_9,
    -0.108_186_2,
    0.528_965_8,
    -0.714_668_9,
    0.603_216_1,
    0.059_418,
];

/// What `half.onnx`, `int8.onnx` and `int4.onnx` make of theirs; whole numbers.
pub(crate) const DENSE_OUTPUT: [f32; 32] = [
    -23.0, 82.0, -124.0, -17.0, 21.0, 18.0, 54.0, 29.0, 20.0, -77.0, -136.0, -115.0, 10.0, -25.0, 64.0, 26.0, 58.0,
    78.0, 43.0, 34.0, -47.0, 5.0, -93.0, 13.0, 69.0, 56.0, -65.0, -6.0, -57.0, -17.0, 61.0, -22.0,
];

/// A pool with its state directory, alone on this machine.
pub(crate) struct Bench {
    pub(crate) pool: Pool,
    pub(crate) directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Waits until no other test has a pool.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

/// A pool of these browsers.
///
/// # Panics
///
/// If it does not start, or a browser of it is not installed: `make setup` installs them.
pub(crate) async fn bench(families: &[Family], change: impl FnOnce(&mut PoolSettings)) -> Bench {
    let alone = alone().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut settings = settings(directory.path(), families);
    change(&mut settings);
    let pool = Pool::start(settings).await.expect("a pool");
    assert_eq!(pool.status().missing, [], "browsers are missing; make setup installs them");
    Bench { pool, directory, _alone: alone }
}

pub(crate) fn settings(directory: &Path, families: &[Family]) -> PoolSettings {
    let ort_web = env::var_os("AUGUR_ORT_WEB_DIRECTORY").expect("`deploy/setup.sh` writes it down");
    // Where setup.sh puts geckodriver, which has no variable of its own.
    let tools = Path::new(&ort_web).join("../../tools/bin");
    PoolSettings {
        ort_web_directory: Some(ort_web.into()),
        tools_directory: Some(tools),
        browsers: families.iter().map(|family| BrowserSettings::usual(family.as_str(), *family)).collect(),
        ..PoolSettings::usual(directory.to_owned())
    }
}

impl Bench {
    /// Runs a job that nobody cancels.
    pub(crate) async fn run(&self, request: WebRequest) -> Result<WebRun, WebError> {
        self.pool.run(request, &CancellationToken::new(), &|_| {}).await
    }

    /// The processes of its browsers.
    pub(crate) fn processes(&self) -> BrowserProcesses {
        BrowserProcesses::of_pool(self.directory.path()).expect("a pool is here")
    }

    /// Stops the pool and checks that none of its processes and folders is left.
    ///
    /// # Panics
    ///
    /// If one is.
    pub(crate) async fn end(self) {
        let mut processes = self.processes();
        processes.alive();
        self.pool.stop().await;
        assert_eq!(processes.alive(), BTreeSet::new(), "processes are left");
        drop(self.pool);
        let pool = fs::read_to_string(self.directory.path().join("pool.id")).expect("a pool was here");
        let folders = env::temp_dir().join(format!("augur-browsers-{}", &pool.trim()[20..]));
        assert!(!folders.exists(), "`{}` is left", folders.display());
    }
}

/// A request for `mixer.onnx`; quick.
pub(crate) fn mixer(platform: Platform) -> WebRequest {
    let x: Vec<u8> = (0_u8..32).flat_map(|index| (f32::from(index) / 10.0 - 1.0).to_le_bytes()).collect();
    let inputs = vec![InputTensor { name: "x".to_owned(), element: "float32".to_owned(), dims: vec![2, 16], bytes: x }];
    request("mixer", inputs, platform)
}

/// A request for `gather.onnx`, some of whose nodes stay on the processor.
pub(crate) fn gather(platform: Platform) -> WebRequest {
    let ids: Vec<u8> = (0_i64..3).flat_map(i64::to_le_bytes).collect();
    let inputs = vec![InputTensor { name: "ids".to_owned(), element: "int64".to_owned(), dims: vec![3], bytes: ids }];
    request("gather", inputs, platform)
}

/// A request for one dense layer in the number format that `model` is named after.
pub(crate) fn dense(platform: Platform, model: &str) -> WebRequest {
    const HALVES: [u16; 7] = [0xC200, 0xC000, 0xBC00, 0x0000, 0x3C00, 0x4000, 0x4200];
    let numbers = (0_u16..128).map(|index| usize::from(index % 7));
    let (element, bytes) = if model == "half" {
        ("float16", numbers.flat_map(|number| HALVES[number].to_le_bytes()).collect())
    } else {
        ("float32", numbers.flat_map(|number| (number as f32 - 3.0).to_le_bytes()).collect())
    };
    let input = InputTensor { name: "x".to_owned(), element: element.to_owned(), dims: vec![2, 64], bytes };
    request(model, vec![input], platform)
}

/// A request for `endless.onnx`, whose first run has no end; it has begun long before the time is over.
pub(crate) fn endless() -> WebRequest {
    let input = mixer(Platform::Wasm).inputs;
    WebRequest { timeout: Duration::from_secs(9), ..request("endless", input, Platform::Wasm) }
}

/// A request that is timed until it is ended, or for ten minutes.
pub(crate) fn timed_for_long(platform: Platform) -> WebRequest {
    WebRequest {
        iterations_min: 1_000_000_000,
        iterations_max: 1_000_000_000,
        duration_ms_max: 600_000,
        timeout: Duration::from_mins(2),
        ..mixer(platform)
    }
}

pub(crate) fn request(model: &str, inputs: Vec<InputTensor>, platform: Platform) -> WebRequest {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(format!("{model}.onnx"));
    let bytes = fs::read(&path).expect("a golden model");
    WebRequest {
        model: model_file(model, path, &bytes),
        inputs,
        platforms: vec![platform],
        browsers: Vec::new(),
        precision: Precision::Fp32,
        threads: 1,
        warmup_iterations: 2,
        iterations_min: 5,
        iterations_max: 10,
        median_interval_pct: 5.0,
        duration_ms_max: 2_000,
        timeout: Duration::from_mins(2),
        memory_mb: None,
        priority: Priority::Normal,
        keep_outputs: false,
    }
}

pub(crate) fn model_file(name: &str, path: PathBuf, bytes: &[u8]) -> ModelFile {
    let sha256 = ContentHash(Sha256::digest(bytes).into());
    ModelFile { name: name.to_owned(), family: None, sha256, path, bytes: bytes.len() as u64 }
}

/// Waits until something holds that only looking shows.
///
/// # Panics
///
/// If it does not within [`LIMIT`].
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(LIMIT, looking).await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
}

/// A float tensor's elements.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

/// A tensor of 16-bit floats; normal numbers and zero only.
pub(crate) fn halves(bytes: &[u8]) -> Vec<f32> {
    let decode = |bits: u16| {
        let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
        let (exponent, fraction) = (i32::from((bits >> 10) & 0x1F), f32::from(bits & 0x3FF));
        if exponent == 0 { 0.0 } else { sign * (1.0 + fraction / 1024.0) * 2.0_f32.powi(exponent - 15) }
    };
    bytes.chunks_exact(2).map(|two| decode(u16::from_le_bytes(two.try_into().expect("two bytes")))).collect()
}
