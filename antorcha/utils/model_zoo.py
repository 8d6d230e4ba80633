"""torch.utils.model_zoo: the older name of torch.hub's downloads."""

from ..hub import download_url_to_file as _download_url_to_file  # noqa: F401
from ..hub import load_state_dict_from_url as load_url  # noqa: F401

try:
    from tqdm.auto import tqdm
except ImportError:
    def tqdm(iterable=None, *args, **kwargs):
        """The iterable, without a progress bar."""
        return iterable
