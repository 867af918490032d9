"""The peer: the same slide, spots, gene and lasso on a page with `st.plotly_chart(on_select=...)`."""

from __future__ import annotations

import base64
import io
import sys

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from PIL import Image

from stamp_index.slides import open_image
from stamp_index.store import Store

PICTURE_PX = 2000


@st.cache_resource
def opened(path: str):  # noqa: ANN201
    store = Store.open(path)
    slide = store.slides().iloc[0]
    picture = open_image(slide["image_uri"]).overview(PICTURE_PX)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=82)
    uri = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    spots = store.spots(["x_px", "y_px"])
    return store, slide, uri, spots.to_numpy(np.float64)


st.set_page_config(layout="wide")
store, slide, picture, xy = opened(sys.argv[1])
gene = st.selectbox("Gene", ["CD8A", "EPCAM", "COL1A1"])
figure = go.Figure(
    go.Scattergl(
        x=xy[:, 0], y=xy[:, 1], mode="markers",
        marker={"size": 4, "opacity": 0.6, "color": store.expression([gene])[:, 0]},
    )
)  # fmt: skip
width, height = float(slide["width_px"]), float(slide["height_px"])
figure.update_layout(
    images=[{"source": picture, "x": 0, "y": 0, "sizex": width, "sizey": height, "xref": "x", "yref": "y",
             "sizing": "stretch", "layer": "below", "yanchor": "top"}],
    dragmode="lasso", height=620, uirevision="kept", margin={"l": 0, "r": 0, "t": 0, "b": 0},
)  # fmt: skip
figure.update_xaxes(range=[0, width], visible=False)
figure.update_yaxes(range=[height, 0], visible=False, scaleanchor="x")
chosen = st.plotly_chart(figure, on_select="rerun", selection_mode="lasso", key="slide")
st.markdown(f"Lasso: {len(chosen.selection.points):,} spots")
