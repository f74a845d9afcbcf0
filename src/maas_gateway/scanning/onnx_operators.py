"""The ONNX operators that a model may use, by domain, and what sets the size of their outputs.

Rules the lists were made by:
    * Only the standard's own operators (opset 7 to 28 of the default domain, 1 to 6 of `ai.onnx.ml`), and of those only
      what computes tensors, or sequences of tensors, from tensors.
    * No other domain. The operators of `com.microsoft` belong to one engine, are bound to no specification, and some
      of them hold state, files or compiled code (`EPContext`); a model that needs one is exported without that
      engine's fusions. Domains of one's own would need a library that nobody loads here.
    * No random numbers: an answer could not be compared, and the generator's state goes from one request to the next.
    * Nothing that trains, reads image formats, or takes or makes maps and optionals: a client can neither send nor
      receive those.
    * An operator that is missing here is refused: a new opset needs a new list and a new `SCANNER_VERSION`.

Source: onnx 1.23.2, `onnx.defs.get_all_schemas_with_history()`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ML: Final = "ai.onnx.ml"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OPERATORS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "": _words(
            """
            Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
            BatchNormalization BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow
            Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence Constant
            ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumProd CumSum
            DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear
            Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor
            GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
            GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax
            Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual
            LinearAttention Log LogSoftmax Loop LpNormalization LpPool
            MatMul MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min
            Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow
            QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range Reciprocal
            ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
            ReduceSumSquare RegexFullMatch Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round
            STFT Scan Scatter ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty SequenceErase
            SequenceInsert SequenceLength SequenceMap Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
            Softsign SpaceToDepth Split SplitToSequence Sqrt Squeeze StringConcat StringNormalizer StringSplit Sub Sum
            SwiGLU Swish Tan Tanh TensorScatter TfIdfVectorizer ThresholdedRelu Tile TopK Transpose Trilu
            Unique Unsqueeze Upsample Where Xor
            """
        ),
        ML: _words(
            """
            ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier
            LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble
            TreeEnsembleClassifier TreeEnsembleRegressor
            """
        ),
    }
)

OPSETS: Final[Mapping[str, range]] = MappingProxyType({"": range(7, 29), ML: range(1, 7)})
"""Versions of each domain that the lists were made for."""

_RANDOM: Final = "it makes random numbers, so that its answers cannot be compared."
_MAP: Final = "it takes a map, which a client cannot send; give the model columns or a matrix."

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ZipMap": "it makes a list of maps, which cannot be sent; convert with options={'zipmap': False}.",
        "DictVectorizer": _MAP,
        "CastMap": _MAP,
        "RandomNormal": _RANDOM,
        "RandomNormalLike": _RANDOM,
        "RandomUniform": _RANDOM,
        "RandomUniformLike": _RANDOM,
        "Bernoulli": _RANDOM,
        "Multinomial": _RANDOM,
        "ImageDecoder": "it reads image files; send the pixels.",
    }
)
"""Why an operator of the standard is refused, where that helps its uploader."""

CONTROL_FLOW: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "If": frozenset({"then_branch", "else_branch"}),
        "Loop": frozenset({"body"}),
        "Scan": frozenset({"body"}),
        "SequenceMap": frozenset({"body"}),
    }
)
"""Operators of the default domain that hold graphs, and in which attributes."""

SIZE_PRODUCTS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "ConstantOfShape": (0,),
        "Expand": (1,),
        "Tile": (1,),
        "Upsample": (1,),
        "Resize": (2, 3),
        "Col2Im": (1,),
        "CenterCropPad": (1,),
        "MaxUnpool": (2,),
        "AffineGrid": (1,),
    }
)
"""Which inputs, by their product, set the size of an output."""

SIZE_LARGEST: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "Pad": (1,),
        "OneHot": (1,),
        "HannWindow": (0,),
        "HammingWindow": (0,),
        "BlackmanWindow": (0,),
        "MelWeightMatrix": (0, 1),
        "DFT": (1,),
        "STFT": (3,),
    }
)
"""Which inputs, each number for itself, set the size of an output."""

SIZE_ATTRIBUTES: Final = frozenset(
    {
        "inputdimensions",
        "n_targets",
        "output_height",
        "output_padding",
        "output_shape",
        "output_width",
        "pooled_shape",
        "scales",
        "strides",
        "targets",
    }
)
"""Attributes that by their product set the size of an output; `pads` do by their largest."""
