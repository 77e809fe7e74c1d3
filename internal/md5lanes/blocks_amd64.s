#include "textflag.h"

// Registers: Y0 to Y3 are a, b, c and d of RFC 1321, of eight streams each. SI
// has the block's 16 words, DX the 64 constants, each eight times.

#define BEGIN(a, k, i) \
	VPADDD (32*k)(SI), a, a; \
	VPADDD (32*i)(DX), a, a

// END adds Y4 to a, rotates it left by s, and adds b.
#define END(a, b, s) \
	VPADDD Y4, a, a;        \
	VPSLLD $s, a, Y5;       \
	VPSRLD $(32-s), a, a;   \
	VPOR   Y5, a, a;        \
	VPADDD b, a, a

// d ^ b & (c ^ d)
#define STEP1(a, b, c, d, k, s, i) \
	VPXOR c, d, Y4;  \
	BEGIN(a, k, i);  \
	VPAND b, Y4, Y4; \
	VPXOR d, Y4, Y4; \
	END(a, b, s)

// b & d | c & ^d, whose halves have no bit in common: they can be added, and
// the one that need not wait for b before the other.
#define STEP2(a, b, c, d, k, s, i) \
	VPANDN c, d, Y5;  \
	BEGIN(a, k, i);   \
	VPADDD Y5, a, a;  \
	VPAND  b, d, Y4;  \
	END(a, b, s)

// b ^ c ^ d
#define STEP3(a, b, c, d, k, s, i) \
	VPXOR c, d, Y4;  \
	BEGIN(a, k, i);  \
	VPXOR b, Y4, Y4; \
	END(a, b, s)

// c ^ (b | ^d)
#define STEP4(a, b, c, d, k, s, i) \
	VPXOR Y15, d, Y4; \
	BEGIN(a, k, i);   \
	VPOR  b, Y4, Y4;  \
	VPXOR c, Y4, Y4;  \
	END(a, b, s)

// TURN puts the 8 words from off on in the block of each of the 8 streams into
// rows: word 0 of all streams, word 1 of all streams, and so on.
#define TURN(off) \
	LOAD(0, off, Y0);  \
	LOAD(8, off, Y1);  \
	LOAD(16, off, Y2); \
	LOAD(24, off, Y3); \
	LOAD(32, off, Y4); \
	LOAD(40, off, Y5); \
	LOAD(48, off, Y6); \
	LOAD(56, off, Y7); \
	VPUNPCKLDQ Y1, Y0, Y8;  \
	VPUNPCKHDQ Y1, Y0, Y9;  \
	VPUNPCKLDQ Y3, Y2, Y10; \
	VPUNPCKHDQ Y3, Y2, Y11; \
	VPUNPCKLDQ Y5, Y4, Y12; \
	VPUNPCKHDQ Y5, Y4, Y13; \
	VPUNPCKLDQ Y7, Y6, Y14; \
	VPUNPCKHDQ Y7, Y6, Y15; \
	VPUNPCKLQDQ Y10, Y8, Y0;  \
	VPUNPCKHQDQ Y10, Y8, Y1;  \
	VPUNPCKLQDQ Y11, Y9, Y2;  \
	VPUNPCKHQDQ Y11, Y9, Y3;  \
	VPUNPCKLQDQ Y14, Y12, Y4; \
	VPUNPCKHQDQ Y14, Y12, Y5; \
	VPUNPCKLQDQ Y15, Y13, Y6; \
	VPUNPCKHQDQ Y15, Y13, Y7; \
	ROWS(0, off, Y0, Y4); \
	ROWS(1, off, Y1, Y5); \
	ROWS(2, off, Y2, Y6); \
	ROWS(3, off, Y3, Y7)

#define LOAD(lane, off, to) \
	MOVQ    lane(BX), AX;          \
	VMOVDQU off(AX)(R8*1), to

#define ROWS(n, off, low, high) \
	VPERM2I128 $0x20, high, low, Y8; \
	VPERM2I128 $0x31, high, low, Y9; \
	VMOVDQA    Y8, (8*off+32*n)(SI); \
	VMOVDQA    Y9, (8*off+32*n+128)(SI)

// func blocks(state *[4][Lanes]uint32, from *[Lanes]*byte, constants *[64][Lanes]uint32, n int)
TEXT ·blocks(SB), NOSPLIT, $544-32
	MOVQ state+0(FP), DI
	MOVQ from+8(FP), BX
	MOVQ constants+16(FP), DX
	MOVQ n+24(FP), CX
	LEAQ 31(SP), SI
	ANDQ $~31, SI
	XORQ R8, R8

next:
	TURN(0)
	TURN(32)
	VMOVDQU  0(DI), Y0
	VMOVDQU  32(DI), Y1
	VMOVDQU  64(DI), Y2
	VMOVDQU  96(DI), Y3
	VPCMPEQD Y15, Y15, Y15

	STEP1(Y0, Y1, Y2, Y3, 0, 7, 0)
	STEP1(Y3, Y0, Y1, Y2, 1, 12, 1)
	STEP1(Y2, Y3, Y0, Y1, 2, 17, 2)
	STEP1(Y1, Y2, Y3, Y0, 3, 22, 3)
	STEP1(Y0, Y1, Y2, Y3, 4, 7, 4)
	STEP1(Y3, Y0, Y1, Y2, 5, 12, 5)
	STEP1(Y2, Y3, Y0, Y1, 6, 17, 6)
	STEP1(Y1, Y2, Y3, Y0, 7, 22, 7)
	STEP1(Y0, Y1, Y2, Y3, 8, 7, 8)
	STEP1(Y3, Y0, Y1, Y2, 9, 12, 9)
	STEP1(Y2, Y3, Y0, Y1, 10, 17, 10)
	STEP1(Y1, Y2, Y3, Y0, 11, 22, 11)
	STEP1(Y0, Y1, Y2, Y3, 12, 7, 12)
	STEP1(Y3, Y0, Y1, Y2, 13, 12, 13)
	STEP1(Y2, Y3, Y0, Y1, 14, 17, 14)
	STEP1(Y1, Y2, Y3, Y0, 15, 22, 15)

	STEP2(Y0, Y1, Y2, Y3, 1, 5, 16)
	STEP2(Y3, Y0, Y1, Y2, 6, 9, 17)
	STEP2(Y2, Y3, Y0, Y1, 11, 14, 18)
	STEP2(Y1, Y2, Y3, Y0, 0, 20, 19)
	STEP2(Y0, Y1, Y2, Y3, 5, 5, 20)
	STEP2(Y3, Y0, Y1, Y2, 10, 9, 21)
	STEP2(Y2, Y3, Y0, Y1, 15, 14, 22)
	STEP2(Y1, Y2, Y3, Y0, 4, 20, 23)
	STEP2(Y0, Y1, Y2, Y3, 9, 5, 24)
	STEP2(Y3, Y0, Y1, Y2, 14, 9, 25)
	STEP2(Y2, Y3, Y0, Y1, 3, 14, 26)
	STEP2(Y1, Y2, Y3, Y0, 8, 20, 27)
	STEP2(Y0, Y1, Y2, Y3, 13, 5, 28)
	STEP2(Y3, Y0, Y1, Y2, 2, 9, 29)
	STEP2(Y2, Y3, Y0, Y1, 7, 14, 30)
	STEP2(Y1, Y2, Y3, Y0, 12, 20, 31)

	STEP3(Y0, Y1, Y2, Y3, 5, 4, 32)
	STEP3(Y3, Y0, Y1, Y2, 8, 11, 33)
	STEP3(Y2, Y3, Y0, Y1, 11, 16, 34)
	STEP3(Y1, Y2, Y3, Y0, 14, 23, 35)
	STEP3(Y0, Y1, Y2, Y3, 1, 4, 36)
	STEP3(Y3, Y0, Y1, Y2, 4, 11, 37)
	STEP3(Y2, Y3, Y0, Y1, 7, 16, 38)
	STEP3(Y1, Y2, Y3, Y0, 10, 23, 39)
	STEP3(Y0, Y1, Y2, Y3, 13, 4, 40)
	STEP3(Y3, Y0, Y1, Y2, 0, 11, 41)
	STEP3(Y2, Y3, Y0, Y1, 3, 16, 42)
	STEP3(Y1, Y2, Y3, Y0, 6, 23, 43)
	STEP3(Y0, Y1, Y2, Y3, 9, 4, 44)
	STEP3(Y3, Y0, Y1, Y2, 12, 11, 45)
	STEP3(Y2, Y3, Y0, Y1, 15, 16, 46)
	STEP3(Y1, Y2, Y3, Y0, 2, 23, 47)

	STEP4(Y0, Y1, Y2, Y3, 0, 6, 48)
	STEP4(Y3, Y0, Y1, Y2, 7, 10, 49)
	STEP4(Y2, Y3, Y0, Y1, 14, 15, 50)
	STEP4(Y1, Y2, Y3, Y0, 5, 21, 51)
	STEP4(Y0, Y1, Y2, Y3, 12, 6, 52)
	STEP4(Y3, Y0, Y1, Y2, 3, 10, 53)
	STEP4(Y2, Y3, Y0, Y1, 10, 15, 54)
	STEP4(Y1, Y2, Y3, Y0, 1, 21, 55)
	STEP4(Y0, Y1, Y2, Y3, 8, 6, 56)
	STEP4(Y3, Y0, Y1, Y2, 15, 10, 57)
	STEP4(Y2, Y3, Y0, Y1, 6, 15, 58)
	STEP4(Y1, Y2, Y3, Y0, 13, 21, 59)
	STEP4(Y0, Y1, Y2, Y3, 4, 6, 60)
	STEP4(Y3, Y0, Y1, Y2, 11, 10, 61)
	STEP4(Y2, Y3, Y0, Y1, 2, 15, 62)
	STEP4(Y1, Y2, Y3, Y0, 9, 21, 63)

	VPADDD  0(DI), Y0, Y0
	VPADDD  32(DI), Y1, Y1
	VPADDD  64(DI), Y2, Y2
	VPADDD  96(DI), Y3, Y3
	VMOVDQU Y0, 0(DI)
	VMOVDQU Y1, 32(DI)
	VMOVDQU Y2, 64(DI)
	VMOVDQU Y3, 96(DI)
	ADDQ    $64, R8
	DECQ    CX
	JNZ     next
	VZEROUPPER
	RET
