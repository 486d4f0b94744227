"""Operations on a selection of nodes."""
