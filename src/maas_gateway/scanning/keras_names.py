"""What a saved Keras model may name: classes, functions and dtypes of Keras 3.15.1, by the module written in the file.

Rules the lists were made by:
    * Static data, made once from the installed Keras 3.15.1 by its canonical export names (what its saver writes);
      aliases are not written, so they are not accepted.
    * Layers: all but Lambda, TFSMLayer, TorchModuleWrapper, JaxLayer and FlaxLayer (they run foreign code), the abstract
      Layer and Wrapper, and MaxNumBoundingBoxes (no tensor of numbers). And the three that keras.applications
      defines beside its architectures, which are plain arithmetic.
    * Operations (`x * 2`, `ops.mean(x)` in a functional model): element-wise, reducing and shape-keeping ones. None that
      takes a function (Map, Scan, Cond, WhileLoop, ...), makes numbers from arguments (Arange, Full, Tile, Repeat,
      BroadcastTo, Pad, ...) or has an output whose size depends on values (Unique, Nonzero, ...).
    * Optimizers, losses and metrics stand in `compile_config` only. None that calls a named function
      (MeanMetricWrapper) or holds other optimizers (MultiOptimizer).
    * A name that is missing here is refused: a new Keras needs new lists and a new `SCANNER_VERSION`.

Source: keras 3.15.1, keras/src/api_export.py and the modules named.
"""

from collections.abc import Mapping
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODELS: Final[Mapping[str, frozenset[str]]] = {
    "keras": frozenset(["Sequential"]),
    "keras.models": frozenset(["Sequential"]),
    "keras.src.models.functional": frozenset(["Functional"]),
    "keras.src.models.sequential": frozenset(["Sequential"]),
}

LAYERS: Final[Mapping[str, frozenset[str]]] = {
    "keras.layers": _words("""
        Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
        AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention
        AugMix AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization
        Bidirectional CategoryEncoding CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D
        Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D
        Cropping2D Cropping3D CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU
        EinsumDense Embedding Equalization Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
        GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
        GroupNormalization GroupQueryAttention HashedCrossing Hashing Identity InputLayer IntegerLookup LSTM
        LSTMCell LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram
        Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute Pipeline RMSNormalization RNN
        RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
        RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert
        RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear
        RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding
        STFTSpectrogram SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax Solarization
        SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup
        Subtract TextVectorization TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D
        ZeroPadding1D ZeroPadding2D ZeroPadding3D
        """),
    # What the architectures of keras.applications define for themselves.
    "keras.src.applications.convnext": frozenset(["LayerScale", "StochasticDepth"]),
    "keras.src.applications.inception_resnet_v2": frozenset(["CustomScaleLayer"]),
}

OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "keras.src.ops.numpy": _words("""
        Abs Absolute Add All Amax Amin Any Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin
        Argsort Average Ceil Clip Concatenate Cos Cosh Cumprod Cumsum Deg2rad Divide DivideNoNan Dot Einsum Equal
        Exp Exp2 ExpandDims Expm1 Flip Floor FloorDivide GetItem Greater GreaterEqual Hypot Isfinite Isinf Isnan
        Less LessEqual Log Log10 Log1p Log2 Logaddexp LogicalAnd LogicalNot LogicalOr LogicalXor Matmul Max Maximum
        Mean Median Min Minimum Mod Moveaxis Multiply NanToNum Negative NotEqual OnesLike Power Prod Rad2deg Ravel
        Reciprocal Reshape Roll Rot90 Round Sign Signbit Sin Sinh Sort Split Sqrt Square Squeeze Stack Std Subtract
        Sum Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Transpose Tril Triu TrueDivide Trunc Var Where ZerosLike
        """),
    "keras.src.ops.nn": _words("""
        AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm Celu Conv ConvTranspose DepthwiseConv
        DotProductAttention Elu Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm LeakyRelu LogSigmoid
        LogSoftmax MaxPool Moments Normalize OneHot RMSNorm Relu Relu6 Selu SeparableConv Sigmoid Silu SoftShrink
        Softmax Softplus Softsign SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink Threshold
        """),
    "keras.src.ops.math": frozenset(["Erf", "Erfinv", "Logsumexp", "Rsqrt", "TopK"]),
    "keras.src.ops.linalg": frozenset(["Norm"]),
    "keras.src.ops.core": frozenset(["Cast", "SaturateCast", "StopGradient"]),
    "keras.src.ops.image": frozenset(["RGBToGrayscale", "Resize"]),
}

PARTS: Final[Mapping[str, frozenset[str]]] = {
    "keras": frozenset(["DTypePolicy"]),
    "keras.initializers": _words("""
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
        RandomNormal RandomUniform STFT TruncatedNormal VarianceScaling Zeros
        """),
    "keras.regularizers": frozenset(["L1", "L1L2", "L2", "OrthogonalRegularizer"]),
    "keras.constraints": frozenset(["MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"]),
}

TRAINING: Final[Mapping[str, frozenset[str]]] = {
    "keras.optimizers": _words("""
        Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop SGD
        ScheduleFreeAdamW
        """),
    "keras.optimizers.schedules": _words("""
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay
        """),
    "keras.losses": _words("""
        BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy CategoricalFocalCrossentropy
        CategoricalGeneralizedCrossEntropy CategoricalHinge Circle CosineSimilarity Dice Hinge Huber KLDivergence
        LogCosh MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson
        SparseCategoricalCrossentropy SquaredHinge Tversky
        """),
    "keras.metrics": _words("""
        AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy CategoricalCrossentropy
        CategoricalHinge ConcordanceCorrelation CosineSimilarity F1Score FBetaScore FalseNegatives FalsePositives
        Hinge IoU KLDivergence LogCoshError Mean MeanAbsoluteError MeanAbsolutePercentageError MeanIoU
        MeanSquaredError MeanSquaredLogarithmicError OneHotIoU OneHotMeanIoU PearsonCorrelation Poisson Precision
        PrecisionAtRecall R2Score Recall RecallAtPrecision RootMeanSquaredError SensitivityAtSpecificity
        SparseCategoricalAccuracy SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy
        SpecificityAtSensitivity SquaredHinge Sum TopKCategoricalAccuracy TrueNegatives TruePositives
        """),
}

FUNCTIONS: Final[Mapping[str, frozenset[str]]] = {
    "keras.activations": _words("""
        celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid
        log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
        sparse_sigmoid sparsemax squareplus tanh tanh_shrink threshold
        """),
    "keras.losses": _words("""
        categorical_generalized_cross_entropy circle cosine_similarity ctc dice huber log_cosh tversky
        """),
    "keras.metrics": _words("""
        binary_accuracy binary_crossentropy binary_focal_crossentropy categorical_accuracy categorical_crossentropy
        categorical_focal_crossentropy categorical_hinge concordance_correlation hinge kl_divergence
        mean_absolute_error mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error
        pearson_correlation poisson sparse_categorical_accuracy sparse_categorical_crossentropy
        sparse_top_k_categorical_accuracy squared_hinge top_k_categorical_accuracy
        """),
}

DTYPES: Final = _words("""
    bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64 string
    mixed_float16 mixed_bfloat16
    """)

RUNS_CODE: Final = frozenset(["Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"])
"""Keras's own layers that run what the file brings along."""
