"""Plain networks of equal layers, with and without residual connections, to compare a supernet with (paper, Table 1)."""

import flax.linen as nn
import jax

from darts_pt_jax import ops


class Layer(nn.Module):
    """Convolution 3x3, BatchNorm and ReLU; a residual layer has two of each and adds its input before the last ReLU."""

    channels: int
    residual: bool

    @nn.compact
    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        y = x
        for i in range(1 + self.residual):
            y = ops.Norm(affine=True, name=f"norm_{i}")(ops.Conv(self.channels, 3, name=f"conv_{i}")(y), training)
            y = nn.relu(y + x if i else y)
        return y


class LayeredNetwork(nn.Module):
    """A network of three stages of equal layers after VGG (Simonyan & Zisserman, 2015) or ResNet (He et al., 2016).

    Between stages a convolution of stride 2 halves the images and doubles the channels. It is called as
    `network.Network` is, so that it trains as that does: images [B, H, W, C], whether it is training, and a probability
    of dropped paths, of which it has none. It returns logits [B, classes] and None.

    Attributes:
      channels: C of the first stage.
      layers: number of layers in each stage.
      residual: whether layers add their input, as in ResNet.
      classes: number of classes.
      auxiliary: always False; there is no auxiliary head.
    """

    channels: int
    layers: int
    residual: bool
    classes: int
    auxiliary: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, training: bool, drop_path: float = 0.0) -> tuple[jax.Array, None]:
        for stage in range(3):
            width = self.channels << stage
            x = ops.Conv(width, 3, 1 + (stage > 0), name=f"enter_{stage}")(x)
            x = nn.relu(ops.Norm(affine=True, name=f"enter_norm_{stage}")(x, training))
            for i in range(self.layers):
                x = Layer(width, self.residual, name=f"stage_{stage}_layer_{i}")(x, training)
        return ops.Linear(self.classes, name="head")(x.mean((1, 2))), None
