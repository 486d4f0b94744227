"""Operations on the fleet."""
