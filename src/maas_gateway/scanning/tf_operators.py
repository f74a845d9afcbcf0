"""The TensorFlow operators that a model may use, by where they stand.

Rules the lists were made by:
    * Numbers and texts from numbers and texts; nothing that touches files, the network, processes, Python, the screen,
      another device or the clock. That an operator is registered as stateless says nothing: `ReadFile`,
      `MatchingFiles`, `ImmutableConst` (which maps a file) and `BatchFunction` (which mixes calls) all are.
    * No memory from one call to the next: no variables that are written, no queues, stages, stacks, iterators,
      barriers, accumulators, random numbers.
    * No decoders of image, sound or record formats, no `_Fused…`, `Quantized…`, `Mkl…`, `Xla…`, `TPU…` kernels: each is
      much machine code for few models.
    * `OPERATORS` may stand in what is served, `FROZEN_AWAY` besides in a SavedModel's signature: freezing turns variables
      and tables into constants. `DORMANT` may stand in functions that no answer is computed by: they write to the
      loading process's own variables and tables, or are what training left behind. `SAVER` may stand only where the
      graph's own saver reaches: every SavedModel has it, nobody calls it, the frozen graph does not have it.

Source: tensorflow 2.21, the registered operators (`op_def_registry`) and their kernels.
"""

from collections.abc import Mapping
from typing import Final

_ELEMENTS: Final = """
    Abs Acos Acosh Add AddN AddV2 Angle ApproximateEqual Asin Asinh Atan Atan2 Atanh BiasAdd BitwiseAnd BitwiseOr BitwiseXor
    Cast Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Digamma Div DivNoNan Elu Equal Erf Erfc Erfinv Exp Expm1
    Floor FloorDiv FloorMod Greater GreaterEqual Imag Inv Invert IsFinite IsInf IsNan LeakyRelu LeftShift Less LessEqual
    Lgamma Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Ndtri Neg NextAfter
    NotEqual Pow Real RealDiv Reciprocal Relu Relu6 RightShift Rint Round Rsqrt Select SelectV2 Selu Sigmoid Sign Sin
    Sinh Softmax Softplus Softsign Sqrt Square SquaredDifference Sub Tan Tanh TruncateDiv TruncateMod Xdivy Xlog1py Xlogy
    BesselI0e BesselI1e Betainc Igamma Igammac Polygamma Zeta PopulationCount
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantizeV2
    QuantizeAndDequantizeV3 QuantizeAndDequantizeV4
"""
_REDUCTIONS: Final = """
    All Any ArgMax ArgMin Bincount Bucketize Cumprod Cumsum CumulativeLogsumexp DenseBincount EuclideanNorm HistogramFixedWidth
    InTopKV2 L2Loss LowerBound Max Mean Min Prod SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum Sum TopKV2 Unique
    UniqueV2 UniqueWithCounts UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound
"""
_SHAPES: Final = """
    BatchToSpaceND Bitcast BroadcastArgs BroadcastTo Concat ConcatV2 DepthToSpace DynamicPartition DynamicStitch
    EnsureShape ExpandDims Fill Gather GatherNd GatherV2 InvertPermutation LinSpace ListDiff MatrixBandPart MatrixDiagPartV3
    MatrixDiagV3 MatrixSetDiagV3 MirrorPad OneHot OnesLike Pack Pad PadV2 ParallelDynamicStitch Range Rank Reshape Reverse
    ReverseSequence ReverseV2 Roll ScatterNd Shape ShapeN Size Slice SpaceToBatchND SpaceToDepth SparseToDense Split
    SplitV Squeeze StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
    TensorStridedSliceUpdate Tile Transpose UnravelIndex Unpack Where ZerosLike RaggedGather RaggedRange RaggedTensorToTensor
"""
_LINEAR: Final = """
    BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky Cross Diag DiagPart Einsum LogMatrixDeterminant MatMul MatrixDeterminant
    MatrixDiag MatrixDiagPart MatrixInverse MatrixSetDiag MatrixSolve MatrixTriangularSolve Qr SelfAdjointEigV2
    FFT FFT2D FFT3D IFFT IFFT2D IFFT3D RFFT RFFT2D RFFT3D IRFFT IRFFT2D IRFFT3D
"""
_LAYERS: Final = """
    AvgPool AvgPool3D Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 DataFormatDimMap DataFormatVecPermute
    DepthwiseConv2dNative Dilation2D FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN MaxPool MaxPool3D MaxPoolV2
    MaxPoolWithArgmax
"""
_IMAGES: Final = """
    AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize ExtractImagePatches
    ExtractVolumePatches HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppressionV3 NonMaxSuppressionV4
    NonMaxSuppressionV5 RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate
"""
_TEXTS: Final = """
    AsString DecodeBase64 DecodeRaw EncodeBase64 ReduceJoin RegexFullMatch RegexReplace StaticRegexFullMatch
    StaticRegexReplace StringJoin StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip
    StringToHashBucket StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper Substr
    UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeScript UnicodeTranscode UnsortedSegmentJoin
"""
_LISTS: Final = """
    EmptyTensorList TensorListConcatLists TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather
    TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListPushBackBatch TensorListReserve
    TensorListResize TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack
"""
_FLOW: Final = """
    Assert Const ControlTrigger FakeParam Identity IdentityN NoOp Placeholder PlaceholderWithDefault
    PreventGradient Snapshot StopGradient PartitionedCall StatefulPartitionedCall
"""

CONTROL_FLOW: Final = frozenset(("Case", "If", "StatelessCase", "StatelessIf", "StatelessWhile", "While"))
"""Operators after which nobody can tell from the graph how long it computes."""

OPERATORS: Final = CONTROL_FLOW.union(
    *(names.split() for names in (_ELEMENTS, _REDUCTIONS, _SHAPES, _LINEAR, _LAYERS, _IMAGES, _TEXTS, _LISTS, _FLOW))
)
"""What may be served, and all that a frozen graph may hold."""

_VARIABLES: Final = """
    DisableCopyOnRead ReadVariableOp ResourceGather ResourceGatherNd VarHandleOp VarIsInitializedOp VariableShape
"""
_TABLES: Final = """
    AnonymousHashTable AnonymousMutableHashTable HashTableV2 LookupTableFindV2 LookupTableSizeV2 MutableHashTableV2
"""
_DORMANT: Final = """
    AssignAddVariableOp AssignSubVariableOp AssignVariableOp InitializeTableV2 LookupTableExportV2 LookupTableImportV2
    LookupTableInsertV2 RandomStandardNormal RandomUniform RandomUniformInt StatelessRandomGetAlg
    StatelessRandomGetKeyCounter StatelessRandomNormalV2 StatelessRandomUniformV2 StatelessTruncatedNormalV2
    TruncatedNormal
"""
FROZEN_AWAY: Final = frozenset(_VARIABLES.split()).union(_TABLES.split())
"""What may stand in a signature besides: freezing turns it into constants."""

DORMANT: Final = frozenset(_DORMANT.split())
"""What may stand where no answer is computed."""

SAVER: Final = frozenset(("MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"))
"""What may stand where only the graph's own saver reaches."""

SIZE_INPUTS: Final[Mapping[str, int]] = {"BroadcastTo": 1, "Fill": 0, "OneHot": 1, "TensorListReserve": 1, "Tile": 1}
"""Which input of an operator sets the size of its output."""
