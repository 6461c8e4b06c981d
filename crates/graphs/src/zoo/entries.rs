//! The models of the zoo, with what is published of them.

use super::{ShapeInput, ZooEntry};

const TEXT: ShapeInput = ShapeInput::Sequence { default: 128, max: 512 };

const IMAGE: ShapeInput = ShapeInput::Image { default: 224, resizable: false };

pub(super) static ZOO: &[ZooEntry] = &[
    ZooEntry {
        name: "bert-base-uncased",
        family: "bert",
        modality: "text",
        // `BertModel` with pooler, without the heads for pre-training; the paper's Table 1 rounds it to 110 M.
        published_parameters: 109_482_240,
        source: "Devlin et al. 2018 (arXiv:1810.04805): 110 M; transformers BertModel.num_parameters(): 109,482,240",
        shape: TEXT,
    },
    ZooEntry {
        name: "bert-tiny",
        family: "bert",
        modality: "text",
        published_parameters: 4_385_920,
        source: "Turc et al. 2019 (arXiv:1908.08962): 4.4 M; keras-hub, preset bert_tiny_en_uncased: 4,385,920",
        shape: TEXT,
    },
    ZooEntry {
        name: "distilbert-base",
        family: "bert",
        modality: "text",
        published_parameters: 66_362_880,
        source: "Sanh et al. 2019 (arXiv:1910.01108): 66 M; transformers DistilBertModel.num_parameters(): 66,362,880",
        shape: TEXT,
    },
    ZooEntry {
        name: "t5-small",
        family: "t5",
        modality: "text",
        published_parameters: 60_506_624,
        source: "Raffel et al. 2019 (arXiv:1910.10683): 60 M; transformers T5ForConditionalGeneration: 60,506,624",
        shape: TEXT,
    },
    ZooEntry {
        name: "bart-base",
        family: "bart",
        modality: "text",
        published_parameters: 139_420_416,
        source: "Lewis et al. 2019 (arXiv:1910.13461), fairseq: 140 M; transformers BartModel: 139,420,416",
        shape: ShapeInput::Sequence { default: 128, max: 1_024 },
    },
    ZooEntry {
        name: "gpt2",
        family: "gpt",
        modality: "text",
        // The paper's own table says 117 M; its repository corrects that to 124 M.
        published_parameters: 124_439_808,
        source: "github.com/openai/gpt-2: 124M; transformers GPT2LMHeadModel.num_parameters(): 124,439,808",
        shape: ShapeInput::Sequence { default: 128, max: 1_024 },
    },
    ZooEntry {
        name: "distilgpt2",
        family: "gpt",
        modality: "text",
        // GPT-2 with 6 of its 12 layers: huggingface.co/distilbert/distilgpt2, config.json.
        published_parameters: 124_439_808 - 6 * 7_087_872,
        source: "huggingface.co/distilbert/distilgpt2: 82 M; transformers GPT2LMHeadModel: 81,912,576",
        shape: ShapeInput::Sequence { default: 128, max: 1_024 },
    },
    ZooEntry {
        name: "opt-125m",
        family: "opt",
        modality: "text",
        published_parameters: 125_239_296,
        source: "Zhang et al. 2022 (arXiv:2205.01068): 125 M; github.com/pytorch/PiPPy, example of OPT with the default \
                 configuration: 125,239,296",
        shape: ShapeInput::Sequence { default: 128, max: 2_048 },
    },
    ZooEntry {
        name: "llama-68m",
        family: "llama",
        modality: "text",
        // Not published to the last digit; it follows from the published config.json: 32,000 tokens and as many outputs
        // of width 768, 2 layers with an inner width of 3,072.
        published_parameters: 2 * 32_000 * 768 + 2 * (4 * 768 * 768 + 3 * 768 * 3_072 + 2 * 768) + 768,
        source: "Miao et al. 2023 (arXiv:2305.09781): 68 M; huggingface.co/JackFram/llama-68m, config.json",
        shape: ShapeInput::Sequence { default: 128, max: 2_048 },
    },
    ZooEntry {
        name: "smollm2-135m",
        family: "llama",
        modality: "text",
        published_parameters: 134_515_008,
        source: "Allal et al. 2025 (arXiv:2502.02737): 135 M; transformers LlamaForCausalLM: 134,515,008",
        shape: ShapeInput::Sequence { default: 128, max: 8_192 },
    },
    ZooEntry {
        name: "vit-base-patch16-224",
        family: "vit",
        modality: "vision",
        published_parameters: 86_567_656,
        source: "Dosovitskiy et al. 2020 (arXiv:2010.11929): 86 M; torchvision vit_b_16 num_params: 86,567,656",
        shape: IMAGE,
    },
    ZooEntry {
        name: "vit-tiny-patch16-224",
        family: "vit",
        modality: "vision",
        published_parameters: 5_717_416,
        source: "Steiner et al. 2021 (arXiv:2106.10270): 5.7 M; timm vit_tiny_patch16_224: 5,717,416",
        shape: IMAGE,
    },
    ZooEntry {
        name: "deit-tiny-distilled-patch16-224",
        family: "deit",
        modality: "vision",
        published_parameters: 5_910_800,
        source: "Touvron et al. 2020 (arXiv:2012.12877): 6 M; timm deit_tiny_distilled_patch16_224: 5,910,800",
        shape: IMAGE,
    },
    ZooEntry {
        name: "deit-small-patch16-224",
        family: "deit",
        modality: "vision",
        published_parameters: 22_050_664,
        source: "Touvron et al. 2020 (arXiv:2012.12877): 22 M; timm deit_small_patch16_224: 22,050,664",
        shape: IMAGE,
    },
    ZooEntry {
        name: "clip-vit-base-patch32",
        family: "clip",
        modality: "multimodal",
        published_parameters: 151_277_313,
        source: "Radford et al. 2021 (arXiv:2103.00020); transformers CLIPModel.num_parameters(): 151,277,313",
        shape: ShapeInput::Sequence { default: 77, max: 77 },
    },
    ZooEntry {
        name: "detr-resnet-50",
        family: "detr",
        modality: "vision",
        // The original freezes its backbone's normalisations, 26,560 gains and as many biases, into buffers, which are
        // not counted; here they are normalisations like any other.
        published_parameters: 41_524_768 + 2 * 26_560,
        source: "Carion et al. 2020 (arXiv:2005.12872): 41 M; transformers DetrForObjectDetection: 41,524,768",
        shape: ShapeInput::Image { default: 800, resizable: true },
    },
    ZooEntry {
        name: "resnet18",
        family: "resnet",
        modality: "vision",
        published_parameters: 11_689_512,
        source: "torchvision resnet18 num_params: 11,689,512",
        shape: ShapeInput::Image { default: 224, resizable: true },
    },
    ZooEntry {
        name: "resnet50",
        family: "resnet",
        modality: "vision",
        published_parameters: 25_557_032,
        source: "torchvision resnet50 num_params: 25,557,032",
        shape: ShapeInput::Image { default: 224, resizable: true },
    },
    ZooEntry {
        name: "mobilenet-v2",
        family: "mobilenet",
        modality: "vision",
        published_parameters: 3_504_872,
        source: "torchvision mobilenet_v2 num_params: 3,504,872",
        shape: ShapeInput::Image { default: 224, resizable: true },
    },
    ZooEntry {
        name: "whisper-tiny",
        family: "whisper",
        modality: "audio",
        // Only the whole of whisper-tiny is published: 37,760,640. Its decoder takes 29,552,256 by the published
        // dimensions (51,865 tokens, 448 positions, 4 layers of width 384), which leaves this for the encoder.
        published_parameters: 37_760_640 - 29_552_256,
        source: "Radford et al. 2022 (arXiv:2212.04356): 39 M; transformers WhisperForConditionalGeneration: \
                 37,760,640, of which the decoder 29,552,256",
        shape: ShapeInput::AudioFrames { default: 3_000 },
    },
    ZooEntry {
        name: "whisper-base",
        family: "whisper",
        modality: "audio",
        published_parameters: 72_593_920,
        source: "Radford et al. 2022 (arXiv:2212.04356): 74 M; keras-hub, preset whisper_base_multi: 72,593,920",
        shape: ShapeInput::Sequence { default: 64, max: 448 },
    },
    ZooEntry {
        name: "wav2vec2-base",
        family: "wav2vec2",
        modality: "audio",
        // Without the 768 values that stand for masked states in training, and without the 128 lengths that the
        // positional convolution's weights have apart from their directions there.
        published_parameters: 94_371_712 - 768 - 128,
        source: "Baevski et al. 2020 (arXiv:2006.11477): 95 M; transformers Wav2Vec2Model: 94,371,712",
        shape: ShapeInput::Samples { default: 16_000, min: 400 },
    },
    ZooEntry {
        name: "clap-htsat-unfused",
        family: "clap",
        modality: "multimodal",
        // The paper says no total; this is what others counted in the published weights (file: 614 MB).
        published_parameters: 153_492_890,
        source: "Wu et al. 2022 (arXiv:2211.06687); transformers ClapModel.num_parameters(): 153,492,890",
        shape: ShapeInput::Sequence { default: 64, max: 512 },
    },
    ZooEntry {
        name: "smolvlm-256m",
        family: "llava",
        modality: "multimodal",
        published_parameters: 256_484_928,
        source: "Marafioti et al. 2025 (arXiv:2504.05299): 256 M; huggingface.co/HuggingFaceTB/SmolVLM-256M-Instruct: \
                 256,484,928",
        shape: ShapeInput::Sequence { default: 64, max: 8_128 },
    },
    ZooEntry {
        name: "blip-image-captioning-base",
        family: "blip",
        modality: "multimodal",
        // The paper says no total; this is what others counted in the published weights.
        published_parameters: 247_414_076,
        source: "Li et al. 2022 (arXiv:2201.12086); transformers BlipForConditionalGeneration: 247,414,076",
        shape: ShapeInput::Sequence { default: 32, max: 512 },
    },
];
