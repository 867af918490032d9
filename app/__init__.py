"""The app: Streamlit's pages, and routes for tiles, spots, patches and genes in the same process."""
