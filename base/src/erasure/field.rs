//! Arithmetic in GF(2^8): addition is exclusive or, multiplication is by logarithms to the generator 2.

/// x^8 + x^4 + x^3 + x^2 + 1.
const POLYNOMIAL: u16 = 0x11d;

/// Elements that are not 0.
const ORDER: usize = 255;

/// `EXP[n]` is 2^n, twice round, so that a sum of two logarithms needs no reduction.
const EXP: [u8; 2 * ORDER] = {
    let mut table = [0u8; 2 * ORDER];
    let (mut power, mut value) = (0, 1u16);
    while power < 2 * ORDER {
        table[power] = value as u8; // below 256, by the reduction
        value <<= 1;
        if value > 0xff {
            value ^= POLYNOMIAL;
        }
        power += 1;
    }
    table
};

/// `LOG[x]` is n for 2^n = x; the entry of 0 has no meaning.
const LOG: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut power = 0;
    while power < ORDER {
        table[EXP[power] as usize] = power as u8;
        power += 1;
    }
    table
};

/// The product.
pub(super) const fn mul(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    EXP[LOG[a as usize] as usize + LOG[b as usize] as usize]
}

/// 1 / a; `None` for 0.
pub(super) const fn inverse(a: u8) -> Option<u8> {
    if a == 0 { None } else { Some(EXP[ORDER - LOG[a as usize] as usize]) }
}
